"""The scikit-learn estimator `LowRankAutoencoder`, and the path of ranks."""
