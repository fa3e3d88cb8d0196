r"""The update of a training step as a CUDA graph: recorded once, launched as a whole.

A step of a small network is some hundred kernels of a few microseconds, and a GPU waits for Python
to launch them one by one. A graph has them all: the objective, its gradient, clipping and Adam. It
reads the batch from a tensor that each new batch is copied into, and the learning rate from a
tensor. What follows an update (:meth:`lorae.objectives.base.Objective.after_step`, the moving
average) is not part of it.

A graph repeats the same kernels with the same Python numbers. So an update cannot be recorded if it
reads a value from the device, such as a rank that decides how much is computed, or if the objective
says that its numbers change (`Objective.capturable`). It is then made without a graph, and a note
says why.

Reference:
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from lorae.objectives.base import Objective, Terms

FIRST = 3
"""Updates that are made before one is recorded, which allocate memory and choose algorithms."""
_READS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2")

Work = Callable[[], Terms]


class HostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context that notes the operations whose result, or cost, the CPU has to know.

    Attributes:
        found: their names.

    Example:
        >>> x = torch.ones(2)
        >>> with HostReads() as reads:
        ...     y = 2 * x
        ...     n = int(x.sum())
        >>> sorted(reads.found)
        ['_local_scalar_dense']
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name, out = func.overloadpacket.__name__, func(*args, **(kwargs or {}))
        tensors = [one for one in (*args[:2], out) if isinstance(one, Tensor) and one.ndim]
        moves = len({one.device.type for one in tensors}) > 1
        masks = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        decomposes = "linalg" in name and not name.endswith("norm")
        if name in _READS or decomposes or masks or moves:
            self.found.add(name)
        return out


class CudaGraphs:
    """Runs and records work on a stream of its own, which a recording needs."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def run(self, work: Work) -> Terms:
        """Do work as it is."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            terms = work()
        torch.cuda.current_stream().wait_stream(self.stream)
        return terms

    def record(self, work: Work) -> Work:
        """Record work, without effect, and return what does it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            terms = work()

        def replay() -> Terms:
            graph.replay()
            return {name: term.clone() for name, term in terms.items()}

        return replay


class CapturedUpdate:
    """An update that is made as it is at first, and then by a recording.

    Args:
        update: of the weights, by a batch; returns the terms of the loss.
        objective: whose weights they are.
        adam: the optimizer.
        note: called with a sentence if the update cannot be recorded.
        refusal: why it cannot be, if that is known.
        graphs: what records it; :class:`CudaGraphs` by default.
    """

    def __init__(
        self,
        update: Callable[[Tensor], Terms],
        objective: Objective,
        adam: Optimizer,
        *,
        note: Callable[[str], None],
        refusal: str = "",
        graphs: Any = None,
    ) -> None:
        self.update, self.objective, self.adam, self.note = update, objective, adam, note
        self.graphs = graphs or CudaGraphs()
        self.made, self.batch = 0, torch.empty(0)
        self.replay: Work | None = None
        self.refused = False
        if refusal or not objective.capturable:
            self._refuse(refusal or "its numbers change from step to step")

    def __call__(self, x: Tensor) -> Terms:
        if self.made == FIRST and self.replay is None and not self.refused:
            self._record(x)
        if self.refused:
            return self.update(x)
        if self.replay is None:
            return self._first(x)
        self.batch.copy_(x)
        return self.replay()

    def _first(self, x: Tensor) -> Terms:
        """Make an update as it is, and find out whether it reads what it must not."""
        with HostReads() as reads:
            terms: Terms = self.graphs.run(partial(self.update, x))
        self.made += 1
        if reads.found:
            self._refuse(f"it needs the CPU for {', '.join(sorted(reads.found))}")
        return terms

    def _record(self, x: Tensor) -> None:
        """Record the update, between two steps: what follows a step reads its gradients."""
        groups = self.adam.param_groups
        rates = [group["lr"] for group in groups]
        kind = torch.float32 if x.is_cuda else torch.float64  # what fused Adam reads
        for group, rate in zip(groups, rates, strict=True):
            group.update(capturable=True, lr=torch.tensor(rate, dtype=kind, device=x.device))
        self.objective.zero_grad()  # gradients are to lie in the memory of the recording
        self.batch = x.clone()
        try:
            self.replay = self.graphs.record(partial(self.update, self.batch))
        except RuntimeError as error:
            for group, rate in zip(groups, rates, strict=True):
                group.update(capturable=False, lr=rate)
            self._refuse(str(error).partition("\n")[0])

    def _refuse(self, reason: str) -> None:
        self.refused = True
        self.note(f"training steps are not captured in a CUDA graph: {reason}")
