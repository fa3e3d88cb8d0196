"""Objectives, and the registry of methods."""
