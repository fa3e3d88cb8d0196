"""How a model is evaluated.

Densities are fitted to training codes. Generated images are compared with test images, both as
bytes. Random draws use stated seeds, and each score is repeated over them, so that it has a
confidence interval. Nothing that is fitted or selected uses the test set.

Importing this module imports no torch.
"""

from dataclasses import dataclass

from lorae.errors import unknown_name
from lorae.sampling.registry import FITTED, check_density
from lorae.utils.validation import check_range

PARTS = ("reconstruction", "generation", "interpolation", "dimension", "classification")
"""The parts of an evaluation."""
PROBES = ("head", "logistic", "neighbours")
"""The probes of codes."""


def check_parts(parts: tuple[str, ...]) -> None:
    """Check the names of parts of an evaluation."""
    for part in parts:
        if part not in PARTS:
            raise unknown_name("part of an evaluation", part, PARTS)


@dataclass(frozen=True)
class Protocol:
    """How a model is evaluated.

    Args:
        samples: number of images to generate, and of test images to compare them with, at most.
        repeats: number of random draws for each score.
        seed: of the first draw; the following draws use the following seeds.
        densities: names in `DENSITIES`; by default the prior if there is one, otherwise the
            Gaussian and the mixture of 10.
        labels: numbers of labelled training samples for the probes.
        probes: names in `PROBES`.
        fitted: number of training codes that densities are fitted to, at most.
    """

    samples: int = 2000
    repeats: int = 3
    seed: int = 0
    densities: tuple[str, ...] = ()
    labels: tuple[int, ...] = (100, 1000)
    probes: tuple[str, ...] = ("logistic", "neighbours")
    fitted: int = FITTED

    def __post_init__(self) -> None:
        for name, least in (("samples", 20), ("repeats", 1), ("seed", 0), ("fitted", 2)):
            check_range(name, getattr(self, name), least)
        for density in self.densities:
            check_density(density)
        for probe in self.probes:
            if probe not in PROBES:
                raise unknown_name("probe", probe, PROBES)

    @property
    def seeds(self) -> range:
        """The seeds of the draws."""
        return range(self.seed, self.seed + self.repeats)
