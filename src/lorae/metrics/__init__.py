"""Evaluation: features, FID and KID, precision and recall, intrinsic dimension, probes."""
