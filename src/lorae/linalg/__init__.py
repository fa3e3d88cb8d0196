"""Spectral mathematics: singular values, nuclear norm, proximal map, moments."""
