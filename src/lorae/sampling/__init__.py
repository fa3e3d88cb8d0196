"""Densities of codes, and interpolation."""
