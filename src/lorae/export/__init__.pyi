from .folding import fold_run as fold_run
from .model_card import write_repository as write_repository
from .programs import export_onnx as export_onnx
from .programs import export_torch as export_torch
