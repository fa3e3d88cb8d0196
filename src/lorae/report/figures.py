"""A plot or a picture on a page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from lorae.report.runs import RunSummary


@dataclass(frozen=True)
class Figure:
    """A plot or a picture of the page."""

    content: bytes  # an SVG or PNG file
    alt: str  # description for readers who do not see it
    title: str = ""  # heading of a plot
    run: RunSummary | None = None  # whose model made the picture; None for the data themselves
    rows: Sequence[str] = ()  # names of the rows of a picture

    @property
    def address(self) -> str:
        """The content as a data URL."""
        kind = "png" if self.content.startswith(b"\x89PNG") else "svg+xml"
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"

    def fit(self, available: int) -> tuple[int, int]:
        """Return width and height of a PNG on the page, multiples of its own, in CSS pixels.

        Args:
            available: CSS pixels that it should fill, about.
        """
        width, height = Image.open(io.BytesIO(self.content)).size
        scale = max(1, round(available / width))
        return width * scale, height * scale
