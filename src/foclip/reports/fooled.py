"""The report of `foclip fool`: before and after, picture by picture, and in the same place, to be flicked between."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageChops

from foclip import __version__, files
from foclip.core.scoring import mean
from foclip.data import images
from foclip.outcome import Failure
from foclip.perceptual.fidelity import Comparison
from foclip.reports.html import THUMBNAIL, exact, figure, picture, render
from foclip.runs.folder import Result

#: FLIP that is white on its map; the map of a picture that nobody can tell from its original is black.
MAP_TOP = 0.4
#: Places per side among which the most changed one is looked for.
PLACES = 32


def write(path: Path, results: Sequence[Result], failures: Sequence[Failure]) -> None:
    """Write the report of a run as one HTML file.

    The originals and the fooled pictures are read from the files that the results name.
    """
    summary = None
    if results:
        before = mean([result.score_before for result in results])
        after = mean([result.score_after for result in results])
        summary = {
            "before": before,
            "after": after,
            "gain": after / before - 1 if before > 0 else None,
            "psnr": min((result.psnr_seen for result in results if result.psnr_seen is not None), default=None),
            "flip99": max(result.flip99 for result in results),
        }
    items = [_item(path.parent, result) for result in results]
    html = render("fooled.html", items=items, failures=failures, summary=summary, version=__version__)
    files.write_text(path, html)


def _item(folder: Path, result: Result) -> dict[str, object]:
    failures: list[Failure] = []
    found = dict(images.readable([result.source, result.output], failures))
    return {
        "result": result,
        "name": Path(result.source).name,
        "link": Path(result.output).name if Path(result.output).parent == folder else result.output,
        "budget": _budget(result.config),
        "shown": _shown(result, found),
        "closer": _closer(found[0], found[1]) if len(found) == 2 else None,
        "bars": list(zip(result.prompts, result.scores_before, result.scores_after, strict=True)),
        "top": max(*result.scores_before, *result.scores_after, 1e-9),
        "curve": figure(_curve(result)),
    }


def _budget(config: Mapping[str, Any]) -> str:
    """What the picture had to keep to."""
    bounds = config.get("budgets", [])
    return f"budget {', '.join(bounds)}" if bounds else "no budget"


def _shown(result: Result, found: Mapping[int, Image.Image]) -> list[tuple[str, str]]:
    """Pictures with their captions; those whose files have gone since are left out."""
    captions = (f"original: score {result.score_before:.3f}", f"fooled: score {result.score_after:.3f}")
    shown = [(captions[place], picture(image)) for place, image in found.items()]
    if len(found) == 2:
        change, factor = difference(found[0], found[1])
        shown.append((f"difference, amplified {factor} times around mid-gray", picture(change)))
    return shown


def _closer(original: Image.Image, fooled: Image.Image) -> dict[str, object]:
    """The part that changed most, as large as a thumbnail, pixel by pixel, and where its change is seen."""
    box = most_changed(original, fooled, THUMBNAIL)
    before, after = original.crop(box), fooled.crop(box)
    seen = Comparison(images.to_tensor(after), images.to_tensor(before)).map("flip")
    colours = matplotlib.colormaps["magma"](seen / MAP_TOP, bytes=True)
    return {
        "before": exact(before),
        "after": exact(after),
        "map": picture(Image.fromarray(colours).convert("RGB")),
        "top": MAP_TOP,
        "whole": before.size == original.size,
    }


def most_changed(original: Image.Image, fooled: Image.Image, side: int) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) with `side` pixels on each side around the place that changed most."""
    change = ImageChops.difference(original, fooled).convert("L")
    change.thumbnail((PLACES, PLACES), Image.Resampling.BOX)
    places = np.asarray(change)
    row, column = np.unravel_index(int(places.argmax()), places.shape)
    lengths = zip((column, row), (change.width, change.height), original.size, strict=True)
    left, top = (
        round(min(max((place + 0.5) / count * length - side / 2, 0), max(length - side, 0)))
        for place, count, length in lengths
    )
    return left, top, min(left + side, original.width), min(top + side, original.height)


def difference(original: Image.Image, fooled: Image.Image) -> tuple[Image.Image, int]:
    """What was added, amplified around mid-gray, and the factor it was amplified by.

    The factor is the largest whole number at which the 99.9th percentile of the
    change still fits.
    """
    change = np.asarray(fooled, dtype=np.float32) - np.asarray(original, dtype=np.float32)
    peak = float(np.percentile(np.abs(change), 99.9))
    factor = max(1, int(127 / max(peak, 1.0)))
    return Image.fromarray((128 + factor * change).clip(0, 255).astype(np.uint8)), factor


def _curve(result: Result) -> Figure:
    """Mean CLIPScore of the 8-bit iterate over steps."""
    plot = Figure(figsize=(4.6, 2.2))
    axes = plot.subplots()
    steps, scores = zip(*result.curve, strict=True)
    axes.plot(steps, scores, color="#b3261e", linewidth=1.6)
    axes.axhline(result.score_before, color="#555555", linewidth=1, linestyle=":")
    axes.set_xlabel("step")
    axes.set_ylabel("mean CLIPScore")
    axes.spines[["top", "right"]].set_visible(False)
    return plot
