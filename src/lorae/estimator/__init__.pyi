from .estimator import LowRankAutoencoder as LowRankAutoencoder
from .loading import load as load
from .path import RankPath as RankPath
from .path import SeededPath as SeededPath
from .path import lorae_path as lorae_path
from .path import lorae_paths as lorae_paths
