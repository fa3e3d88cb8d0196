"""Autoencoders that find their own latent dimension.

Names are imported when they are first used. Importing the package sets `OMP_WAIT_POLICY=passive`
unless it is set already: threads that spin while they wait make a training step on a shared
processor several times slower. It has no effect where torch was imported before.
"""

import os

import lazy_loader

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
