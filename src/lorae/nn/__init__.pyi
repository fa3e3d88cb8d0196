from . import bridges as bridges
from .autoencoder import Architecture as Architecture
from .autoencoder import Autoencoder as Autoencoder
from .autoencoder import build as build
from .inference import decode_all as decode_all
from .inference import encode_all as encode_all
from .serialization import load as load
from .wrapping import wrap as wrap
