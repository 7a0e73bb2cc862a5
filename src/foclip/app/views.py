"""What the tabs show, as HTML in which every name and prompt is escaped; pictures and files to keep lie inside it."""

import base64
import io
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from markupsafe import Markup
from PIL import Image

from foclip.app.climbing import Climb, Climbed
from foclip.app.served import DataScan
from foclip.reports import html

#: A file to keep: its name, its kind, its bytes, and what the link says.
File = tuple[str, str, bytes, str]
#: Links of a report to files beside it; there are none beside the page.
BESIDE = re.compile(r'<a href="[^"#][^"]*">(.*?)</a>')
#: Points of the line that a climb draws.
POINTS = 120

_page = partial(html.page, package="foclip.app")


def message(text: str, failed: bool = False) -> Markup:
    """One line."""
    return _markup("message.html", text=text, failed=failed)


def climbing(climb: Climb) -> str:
    """A climb while it lasts."""
    shown = climb.shown
    if shown is None:
        return message("reading the picture …")
    every = max(1, len(shown.scores) // POINTS)
    points = [*list(enumerate(shown.scores))[::every], (shown.step, shown.scores[-1])]
    return _page(
        "climbing.html",
        shown=shown,
        steps=climb.plan.steps,
        line=" ".join(f"{step},{score:.4f}" for step, score in points),
        top=max(*shown.scores, 1e-9),
        ending=climb.ending,
    )


def climbed(found: Climbed) -> str:
    """A climb that has ended: before and after, the files, and the report."""
    result = found.result
    name = result.output.replace("\\", "/").rpartition("/")[2]
    files = [
        (name, "image/png", found.png, "the fooled picture (PNG)"),
        (f"{name.removesuffix('.png')}-report.html", "text/html", found.report.encode(), "the report (HTML)"),
    ]
    return _page(
        "climbed.html",
        result=result,
        name=name,
        size=len(found.png),
        before=_data("image/png", _quick_png(found.original)),
        after=_data("image/png", found.png),
        links=links(files),
        report=report(found.report),
    )


def compared(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """Scores of the pictures of these names, one or two, by score and encoder."""
    top = max([each for row in rows for each in row["scores"] or ()], default=1.0)
    return _page("compared.html", names=names, rows=rows, top=max(top, 1e-9))


def checked(summary: str, page: str, table: str) -> str:
    """Verdicts: what came out in one line, the report, and files to keep."""
    files = [
        ("verdicts.csv", "text/csv", table.encode(errors="backslashreplace"), "the table (CSV)"),
        ("verdicts.html", "text/html", page.encode(errors="backslashreplace"), "the report (HTML)"),
    ]
    return message(summary) + links(files) + report(page)


def links(files: Sequence[File]) -> Markup:
    """Links that save files, which lie in the page itself: the server keeps none."""
    shown = [(name, _data(kind, content), says) for name, kind, content, says in files]
    return _markup("links.html", files=shown)


def report(page: str) -> Markup:
    """A page in a frame of its own, which runs no script and is as high as its content."""
    return _markup("report.html", page=BESIDE.sub(r"\1", page))


def _quick_png(image: Image.Image) -> bytes:
    """A picture pixel by pixel, written in little time."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _markup(template: str, **values: Any) -> Markup:
    return Markup(_page(template, **values))  # noqa: S704 (a template of ours, which escapes its values)


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def scanned(scan: DataScan) -> str:
    """The scan of a data set: how far it is, or what it found."""
    if scan.page is not None:
        return report(scan.page)
    return _page("scanning.html", text=scan.note, share=scan.share)
