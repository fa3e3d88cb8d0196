from .datasets import Data as Data
from .datasets import load as load
from .downloads import Unreachable as Unreachable
from .registry import DATASETS as DATASETS
from .registry import cached as cached
from .registry import fetch as fetch
