r"""Several models of one architecture as one, so that a step of all is one step of tensors.

The parameters :math:`\theta_1, \dots, \theta_n` of n members stand behind one another in one tensor
for each layer, and the members are views of it. The loss of the stack is the sum of theirs,

.. math:: L(\theta_1, \dots, \theta_n) = \sum_i L_i(\theta_i),

whose gradient in :math:`\theta_i` is that of :math:`L_i` alone; Adam and the proximal map act on
every member apart. So each is trained as it would have been by itself, to rounding.

The members of a step are computed at once (`torch.func.vmap`: matrix products become batched ones,
convolutions grouped ones) or in turn. At once pays where a single member leaves the device idle: on
a GPU, and on a CPU for small networks. Grouped convolutions of large images are slower on a CPU
than the same convolutions one after the other (`benchmarks/stacked.py`), so there they go in turn.
"""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lorae.autoencoder import Autoencoder
from lorae.distributed import drawing_from
from lorae.objectives import Objective

APART = {
    "rrae": "its bridge asks for the rank as a number",
    "rrae-adaptive": "its members would come to differ in rank",
    "vrrae": "its bridge asks for the rank as a number",
    "least-volume": "its decoder's norms are followed by the power method",
    "rae-sn": "its decoder's norms are followed by the power method",
    "rae-gp": "its loss asks for a derivative of its own",
    "vae-flow": "its flow checks what it is given",
}
"""The models that cannot be stacked, each with what stands in the way."""

OWN = ("seed", "weight")
"""The options in which the trainings of a stack may differ."""

_Module = TypeVar("_Module", bound=nn.Module)

_FEWEST_AT_ONCE = 3
"""Members, below which a CPU computes them in turn."""

_LARGEST_AT_ONCE = 300_000
"""Multiplications a sample in convolutions, above which a CPU computes them in turn."""


class Stack:
    """Objectives of one kind over models of one architecture, trained as one.

    Args:
        objectives: at least one; they keep working, and are views of the stack from now on.
        generators: of random numbers, one for each.
        at_once: whether a step computes all members at once; by default where it pays.

    Attributes:
        members: the objectives given.
        together: one such objective, whose every tensor has the members as its first dimension.

    Example:
        >>> from lorae.autoencoder import Architecture, build
        >>> from lorae.objectives import LoRAE
        >>> architecture = Architecture("mlp", (6,), latent=3, bridge="low-rank")
        >>> members = [LoRAE(build(architecture), weight) for weight in (1e-3, 1e-2)]
        >>> stack = Stack(members, [torch.Generator(), torch.Generator()])
        >>> {name: term.shape for name, term in stack.backward(torch.rand(2, 5, 6)).items()}
        {'reconstruction': torch.Size([2]), 'nuclear_norm': torch.Size([2])}
        >>> gradient = stack.together.get_parameter("model.bridge.weight").grad
        >>> torch.equal(gradient[1], members[1].model.bridge.weight.grad)
        True
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        generators: Sequence[torch.Generator],
        *,
        at_once: bool | None = None,
    ) -> None:
        self.members, self.generators = tuple(objectives), tuple(generators)
        n = len(self.members)
        self.at_once = pays(self.members[0].model, n) if at_once is None else at_once
        self.together = joined(self.members)
        if isinstance(getattr(self.together, "weight", None), float):
            weights = [getattr(member, "weight") for member in self.members]  # noqa: B009
            del self.together.weight
            like = self.members[0].model.scale
            tensor = torch.tensor(weights, dtype=like.dtype, device=like.device)
            self.together.register_buffer("weight", tensor)

    def backward(
        self, x: Float[Tensor, "members n *shape"]
    ) -> dict[str, Float[Tensor, " members"]]:
        """Return every member's terms for its batch, and leave their gradients in the stack."""
        for parameter in self.together.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()
        return self._at_once(x) if self.at_once else self._in_turn(x)

    def set_strength(self, strength: float) -> None:
        """Give every penalty this share of its weight."""
        for objective in (self.together, *self.members):
            objective.strength = strength

    @torch.no_grad()
    def clip(self, max_norm: float) -> None:
        """Shorten each member's gradient to a norm, where it is longer."""
        gradients = [p.grad for p in self.together.parameters() if p.grad is not None]
        squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients])
        factor = (max_norm / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))

    @torch.no_grad()
    def contain(self) -> None:
        """Turn what is not finite in the gradients to 0, so that one member harms no other.

        A decomposition of a batch of matrices fails if a single entry is not finite.
        """
        for parameter in self.together.parameters():
            if parameter.grad is not None:
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)

    def _at_once(self, x: Tensor) -> dict[str, Tensor]:
        def terms_of(state: dict[str, Tensor], batch: Tensor) -> dict[str, Tensor]:
            terms: dict[str, Tensor] = functional_call(self.together, state, (batch,))
            return terms

        state = dict(self.together.named_parameters()) | dict(self.together.named_buffers())
        with drawing_from(*self.generators):
            terms: dict[str, Tensor] = vmap(terms_of)(state, x)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        return terms

    def _in_turn(self, x: Tensor) -> dict[str, Tensor]:
        found = []
        for member, generator, batch in zip(self.members, self.generators, x, strict=True):
            with drawing_from(generator):
                terms = member(batch)
            torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
            found.append({name: term.detach() for name, term in terms.items()})
        return {name: torch.stack([terms[name] for terms in found]) for name in found[0]}


def joined(modules: Sequence[_Module]) -> _Module:
    """Return a module whose tensors are those of several stacked, and make them views of it.

    Gradients are views as well, of one that is there from the start. A slice of a convolution's
    weight has its channels last, as fast convolutions want them.
    """
    parameters, buffers = stack_module_state(list(modules))
    together = copy.deepcopy(modules[0])
    for name, stacked in parameters.items():
        weight = nn.Parameter(_channels_last(stacked.detach()))
        weight.grad = torch.zeros_like(weight)
        _put(together, name, weight)
        for module, part, gradient in zip(modules, weight.detach(), weight.grad, strict=True):
            own = nn.Parameter(part)
            own.grad = gradient
            _put(module, name, own)
    for name, stacked in buffers.items():
        _put(together, name, stacked)
        for module, part in zip(modules, stacked, strict=True):
            _put(module, name, part)
    return together


def pays(model: Autoencoder, members: int) -> bool:
    """Return whether so many of this model are quicker computed at once than in turn."""
    few = members < _FEWEST_AT_ONCE
    return model.shift.device.type != "cpu" or not (few or _convolving(model) > _LARGEST_AT_ONCE)


@torch.no_grad()
def _convolving(model: Autoencoder) -> int:
    """Return the multiplications that a sample costs in convolutions."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        place = output if isinstance(module, nn.Conv2d) else inputs[0]
        counts.append(place[0, 0].numel() * module.get_parameter("weight").numel())

    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    layers = [module for module in model.modules() if isinstance(module, kinds)]
    if not layers or model.architecture is None:
        return 0
    hooks = [layer.register_forward_hook(count) for layer in layers]
    model.eval()
    model(model.scale.new_zeros(1, *model.architecture.shape))
    model.train()
    for hook in hooks:
        hook.remove()
    return sum(counts)


def _channels_last(stacked: Tensor) -> Tensor:
    if stacked.dim() != 5:
        return stacked
    return stacked.movedim(2, -1).contiguous().movedim(-1, 2)


def _put(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a tensor in the place of a parameter or buffer of that name."""
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, tensor)
