"""Results as one HTML file: pictures, tables and figures inside, nothing fetched."""

import base64
import io
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

#: Longest side of a picture in a report, in pixels.
THUMBNAIL = 360


def render(template: str, **values: Any) -> str:
    """HTML of a template in `report/templates`; every value is escaped unless it is `Markup`."""
    environment = Environment(
        loader=PackageLoader("foclip.reports"), autoescape=select_autoescape(default=True), undefined=StrictUndefined
    )
    return environment.get_template(template).render(**values)


def picture(image: Image.Image) -> str:
    """A picture as JPEG data URI, at most `THUMBNAIL` pixels on its longest side."""
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return _embedded(small, "JPEG", quality=88)


def exact(image: Image.Image) -> str:
    """A picture as data URI, pixel by pixel."""
    return _embedded(image, "WEBP", lossless=True)


def _embedded(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()


def figure(plot: Figure) -> Markup:
    """A matplotlib figure as inline SVG, the same bytes for the same figure."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "foclip", "svg.fonttype": "none"}):
        plot.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    # Our own drawing, and matplotlib escapes the text in it.
    return Markup(svg[svg.index("<svg") :])  # noqa: S704
