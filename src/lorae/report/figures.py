"""A plot or a picture on a page."""

import base64
import io
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
    width: int = 340  # CSS pixels that a picture should fill, in multiples of its own pixels

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
