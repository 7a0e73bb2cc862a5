"""Results as one HTML file: pictures, tables and figures inside, nothing fetched."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from foclip import __version__, files
from foclip.outcome import Failure

#: Longest side of a picture in a report, in pixels.
THUMBNAIL = 360


def page(template: str, package: str = "foclip.reports", **values: Any) -> str:
    """A page of the folder `templates` of a package; every value is escaped unless it is `Markup`."""
    return _templates(package).get_template(template).render(version=__version__, **values)


@cache
def _templates(package: str) -> Environment:
    environment = Environment(
        loader=PackageLoader(package), autoescape=select_autoescape(default=True), undefined=StrictUndefined
    )
    environment.filters["reasons"] = reasons
    return environment


def write(path: Path, template: str, **values: Any) -> None:
    """Write a page of `reports/templates`."""
    files.write_text(path, page(template, **values))


def names(paths: Sequence[str]) -> list[str]:
    """What a page calls files, without the folders of whoever made it: the last parts of a path that tell it apart."""
    split, shown = [tuple(path.replace("\\", "/").split("/")) for path in paths], list(paths)
    different, left, count = set(split), set(range(len(split))), 1
    while left:
        tails = Counter(parts[-count:] for parts in different)
        for place in [place for place in left if tails[split[place][-count:]] == 1 or count >= len(split[place])]:
            shown[place] = "/".join(split[place][-count:])
            left.remove(place)
        count += 1
    return shown


def reasons(failures: Sequence[Failure]) -> list[str]:
    """Why inputs failed, with their names alone."""
    shown = names([failure.source for failure in failures])
    return [failure.reason.replace(failure.source, name) for failure, name in zip(failures, shown, strict=True)]


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
