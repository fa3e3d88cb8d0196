"""Colour images of 16 bits are read to full precision, from PNG and TIFF of either byte order."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from lorae.data.datasets import load


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(values):
    """Return values H x W x C as PNG, with rows of filter 2 (up) after the first."""
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    above = np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    content = b"".join(b"\2" + row.tobytes() for row in rows - above)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content))
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b"")


def tiff(values, order, *, deflated):
    """Return values H x W x 3 as a TIFF file of one strip."""
    height, width, channels = values.shape
    content = values.astype(f"{order}u2").tobytes()
    content = zlib.compress(content) if deflated else content
    bits = 8 + len(content)
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, bits),
        (259, 3, 1, 8 if deflated else 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(content)),
        (284, 3, 1, 1),
    ]
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count)
        + (
            struct.pack(f"{order}HH", value, 0)
            if (kind, count) == (3, 1)
            else struct.pack(f"{order}I", value)
        )
        for tag, kind, count, value in tags
    )
    start = bits + 2 * channels
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, start)
    strip = content + struct.pack(f"{order}{channels}H", *[16] * channels)
    return head + strip + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


WRITERS = {
    "a.png": png,
    "little.tif": lambda values: tiff(values, "<", deflated=False),
    "big.tif": lambda values: tiff(values, ">", deflated=False),
    "deflated.tif": lambda values: tiff(values, "<", deflated=True),
    "big-deflated.tif": lambda values: tiff(values, ">", deflated=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_bit_is_read(name, tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (6, 9, 11, 3))
    for k, one in enumerate(values):
        Path(tmp_path, f"{k}-{name}").write_bytes(WRITERS[name](one))
    data = load(tmp_path, test_fraction=0.2)
    found = np.concatenate([data.train.numpy(), data.test.numpy()])
    assert data.value_range == (0.0, 1.0)
    assert float(data.scale) == 65535
    key = lambda x: x.reshape(len(x), -1)[:, 0].argsort()  # noqa: E731
    expected = values.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(found[key(found)], expected[key(expected)])


def test_what_is_transparent_is_white(tmp_path):
    values = np.full((8, 8, 4), 1000)
    values[..., 3] = 65535
    values[0, 0] = (7, 8, 9, 0)
    for k in range(4):
        values[1, 1, 0] = k
        Path(tmp_path, f"{k}.png").write_bytes(png(values))
    data = load(tmp_path, test_fraction=0.25)
    assert data.train.shape[1:] == (3, 8, 8)
    assert (data.train[:, :, 0, 0] == 65535).all()
