"""The paper's networks, layer by layer as published.

Each takes samples of one shape, that of its data set, and its decoder ends in tanh. The paper has
128 latent dimensions for MNIST and CelebA and 32 for the shapes. `width` multiplies every hidden
number of channels (rounded, at least 1); 1 is the network as published.

Example:
    >>> import torch
    >>> encoder, decoder = mnist(128, width=0.25)
    >>> z = encoder(torch.zeros(5, 1, 32, 32))
    >>> z.shape, decoder(z).shape
    (torch.Size([5, 128]), torch.Size([5, 1, 32, 32]))

References:
    Mazumder et al., Low-Rank Autoencoder (LoRAE), WACV 2024, whose networks are those of
    Jing, Zbontar and LeCun, Implicit Rank-Minimizing Autoencoder, NeurIPS 2020.
"""

from torch import nn

from lorae.nn.blocks import Pair, Shape, downsampling, scale_widths, upsampling

PAPER_SHAPES: dict[str, Shape] = {
    "mnist": (1, 32, 32),
    "celeba": (3, 64, 64),
    "shapes": (3, 32, 32),
}
"""The one shape of sample that each of the paper's networks takes."""


def mnist(latent: int, width: float = 1.0) -> Pair:
    """Return the paper's networks for MNIST, for images of 1 x 32 x 32.

    The encoder halves the image four times, to 256 x 2 x 2; the decoder doubles a seed of
    128 x 8 x 8 twice and mixes its 32 channels into one in (-1, 1).
    """
    down, up = scale_widths((32, 64, 128, 256), width), scale_widths((128, 64, 32), width)
    encoder = nn.Sequential(
        *downsampling(1, down), nn.Flatten(), nn.Linear(down[-1] * 2 * 2, latent)
    )
    decoder = nn.Sequential(
        nn.Linear(latent, up[0] * 8 * 8),
        nn.Unflatten(1, (up[0], 8, 8)),
        nn.ReLU(),
        *upsampling(up),
        nn.ConvTranspose2d(up[-1], 1, 1),
        nn.Tanh(),
    )
    return Pair(encoder, decoder)


def celeba(latent: int, width: float = 1.0) -> Pair:
    """Return the paper's networks for CelebA, for images of 3 x 64 x 64.

    The encoder halves the image four times, to 1024 x 4 x 4; the decoder doubles a seed of
    1024 x 8 x 8 three times and mixes its 128 channels into three in (-1, 1). Unlike for
    MNIST there is no activation before the first transposed convolution.
    """
    down = scale_widths((128, 256, 512, 1024), width)
    up = down[::-1]
    encoder = nn.Sequential(
        *downsampling(3, down), nn.Flatten(), nn.Linear(down[-1] * 4 * 4, latent)
    )
    decoder = nn.Sequential(
        nn.Linear(latent, up[0] * 8 * 8),
        nn.Unflatten(1, (up[0], 8, 8)),
        *upsampling(up),
        nn.ConvTranspose2d(up[-1], 3, 1),
        nn.Tanh(),
    )
    return Pair(encoder, decoder)


def shapes(latent: int, width: float = 1.0) -> Pair:
    """Return the paper's networks for the synthetic shapes, for images of 3 x 32 x 32.

    The encoder halves the image four times, to 256 x 2 x 2, and a convolution over the
    rest gives the code; the decoder mirrors it, with values in (-1, 1).
    """
    down = scale_widths((32, 64, 128, 256), width)
    up = down[::-1]
    encoder = nn.Sequential(*downsampling(3, down), nn.Conv2d(down[-1], latent, 2), nn.Flatten())
    decoder = nn.Sequential(
        nn.Unflatten(1, (latent, 1, 1)),
        nn.ConvTranspose2d(latent, up[0], 2),
        nn.ReLU(),
        *upsampling(up),
        nn.ConvTranspose2d(up[-1], 3, 4, 2, 1),
        nn.Tanh(),
    )
    return Pair(encoder, decoder)
