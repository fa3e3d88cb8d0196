"""The scikit-learn estimator `LowRankAutoencoder`, and the path of ranks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
