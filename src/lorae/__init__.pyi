from . import data as data
from .errors import Diverged as Diverged
from .errors import InputError as InputError
from .errors import Interrupted as Interrupted
from .estimator.estimator import LowRankAutoencoder as LowRankAutoencoder
from .estimator.path import RankPath as RankPath
from .estimator.path import lorae_path as lorae_path
from .estimator.path import SeededPath as SeededPath
from .estimator.path import lorae_paths as lorae_paths
from .nn.autoencoder import Architecture as Architecture
from .nn.autoencoder import Autoencoder as Autoencoder
from .nn.autoencoder import build as build
from .nn.inference import encode_all as encode_all
from .nn.serialization import load as load
from .nn.wrapping import wrap as wrap
from .training.evaluation import Evaluation as Evaluation
from .training.evaluation import evaluate as evaluate
from .training.options import Options as Options
from .training.run_folder import Run as Run
from .training.train import train as train
from .utils.samples import as_float as as_float

__version__: str
