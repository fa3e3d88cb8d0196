"""A plot or a picture on a page."""

import base64
import io
from dataclasses import dataclass

from PIL import Image

from lorae.report.runs import RunSummary


@dataclass(frozen=True)
class Figure:
    """A plot or a picture of the page.

    Args:
        content: an SVG or PNG file.
        alt: description for readers who do not see it.
        title: heading of a plot.
        run: the run whose model made the picture, or None for the data themselves.
        width: CSS pixels that a picture should fill, in whole multiples of its own pixels.
    """

    content: bytes
    alt: str
    title: str = ""
    run: RunSummary | None = None
    width: int = 340

    @property
    def address(self) -> str:
        """The content as a data URL."""
        kind = "png" if self.content.startswith(b"\x89PNG") else "svg+xml"
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a PNG on the page, in CSS pixels."""
        width, height = Image.open(io.BytesIO(self.content)).size
        scale = max(1, round(self.width / width))
        return width * scale, height * scale
