"""The report of `foclip fool`: before and after, picture by picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from foclip import __version__, files, images
from foclip.outcome import Failure
from foclip.report.html import figure, picture, render
from foclip.results import Result
from foclip.scoring import mean


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
        }
    items = [_item(path.parent, result) for result in results]
    html = render("fooled.html", items=items, failures=failures, summary=summary, version=__version__)
    files.write_text(path, html)


def _item(folder: Path, result: Result) -> dict[str, object]:
    return {
        "result": result,
        "name": Path(result.source).name,
        "link": Path(result.output).name if Path(result.output).parent == folder else result.output,
        "shown": _shown(result),
        "bars": list(zip(result.prompts, result.scores_before, result.scores_after, strict=True)),
        "top": max(*result.scores_before, *result.scores_after, 1e-9),
        "curve": figure(_curve(result)),
    }


def _shown(result: Result) -> list[tuple[str, str]]:
    """Pictures with their captions; those whose files have gone since are left out."""
    failures: list[Failure] = []
    found = dict(images.readable([result.source, result.output], failures))
    captions = (f"original: score {result.score_before:.3f}", f"fooled: score {result.score_after:.3f}")
    shown = [(captions[place], picture(image)) for place, image in found.items()]
    if len(found) == 2:
        change, factor = difference(found[0], found[1])
        shown.append((f"difference, amplified {factor} times around mid-gray", picture(change)))
    return shown


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
