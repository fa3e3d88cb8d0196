from .cache import Unreachable as Unreachable
from .datasets import DATASETS as DATASETS
from .datasets import Data as Data
from .datasets import cached as cached
from .datasets import fetch as fetch
from .datasets import load as load
