"""Loading of saved models from a file, a run, an exported folder or the Hugging Face hub."""

import copy
from pathlib import Path

from torch import Tensor, nn

from lorae.errors import InputError
from lorae.nn import folding
from lorae.nn.autoencoder import Architecture, Autoencoder, build
from lorae.nn.bridges.registry import build_bridge
from lorae.utils import hub
from lorae.utils.tensor_files import load_tensors


def load(
    path: str | Path,
    *,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    revision: str | None = None,
) -> Autoencoder:
    """Return a saved model, with the units of its data, on the CPU and in evaluation mode.

    Args:
        path: a file, the folder of a run, a folder of `lorae export --to hub`, or a repository
            OWNER/NAME of the Hugging Face hub, if there is no such path (needs the package
            huggingface-hub: `pip install 'lorae[hub]'`). Only safetensors are read.
        encoder: for a model of the user's own modules (:func:`lorae.wrap`), an encoder like the
            one that was wrapped, also if the model was folded; it is copied.
        decoder: likewise a decoder.
        revision: of the repository on the hub, a branch, a tag or a commit.

    Raises:
        InputError: if there is no such file or repository, it is truncated, altered, of a newer
            version or not a model of lorae, or the modules are missing, not needed or of other
            sizes.

    Example:
        >>> import torch
        >>> from tempfile import mkdtemp
        >>> model, file = build(Architecture("mlp", (6,), 3)).eval(), Path(mkdtemp()) / "model"
        >>> model.save(file)
        >>> x = torch.rand(5, 6)
        >>> torch.equal(load(file)(x), model(x))
        True
    """
    file = _file_of(path, revision)
    tensors, about = load_tensors(file)
    try:
        model = rebuild(Architecture.from_dict(about), tensors, encoder, decoder)
        model.load_state_dict(tensors)
    except InputError as error:
        raise InputError(f"{str(file)!r} cannot be loaded: {error}") from None
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{str(file)!r} holds no model this version can build ({reason[:300]})"
        ) from None
    return model.eval()


def _file_of(path: str | Path, revision: str | None) -> Path:
    """Return the file of a model, given its path, its folder or the name of a repository."""
    place = Path(path)
    if isinstance(path, str) and hub.is_repository(path) and not place.parent.exists():
        return hub.download(path, "model.safetensors", revision)
    return place / "model.safetensors" if place.is_dir() else place


def rebuild(
    architecture: Architecture,
    tensors: dict[str, Tensor],
    encoder: nn.Module | None,
    decoder: nn.Module | None,
) -> Autoencoder:
    """Return a model into which a state can be loaded; modules are for one of the user's own."""
    units = {"shift": tensors["shift"], "scale": tensors["scale"]}
    if architecture.network != "own":
        if encoder is not None or decoder is not None:
            raise InputError("encoder and decoder must not be given, the file has its own")
        return build(architecture, **units)
    if encoder is None or decoder is None:
        raise InputError(
            "encoder and decoder must be given for a model of the user's own modules: "
            "lorae.load(path, encoder=..., decoder=...)"
        )
    state = {
        part: {n.removeprefix(part): one for n, one in tensors.items() if n.startswith(part)}
        for part in ("encoder.", "decoder.")
    }
    return Autoencoder(
        folding.match_output(copy.deepcopy(encoder), state["encoder."]),
        build_bridge(architecture.bridge, architecture.latent, architecture.settings),
        folding.match_input(copy.deepcopy(decoder), state["decoder."]),
        **units,
        prior=architecture.prior,
        inverts=architecture.inverts,
        architecture=architecture,
    )
