"""Autoencoders: networks, bridges, inference, serialization."""
