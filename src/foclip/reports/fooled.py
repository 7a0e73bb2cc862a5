"""The report of `foclip fool`: before and after, picture by picture, and in the same place, in turns."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageChops

from foclip import files
from foclip.data import images
from foclip.errors import ImageError
from foclip.outcome import Failure, mean
from foclip.perceptual.fidelity import Comparison
from foclip.reports import html
from foclip.runs.folder import Result

#: FLIP that is white on its map; the map of a picture that nobody can tell from its original is black.
MAP_TOP = 0.4
#: Places per side among which the most changed one is looked for.
PLACES = 32
#: Side of the part of a picture that is shown enlarged, in pixels, and how many times.
PART, ENLARGED = 240, 3
#: Pictures that are shown enlarged, from the first on, since they weigh most; and from how many the index sorts.
CLOSE, INDEX = 60, 12
#: Size of the box of a curve, which ends above the axis, so that both are seen; and about how many points it shows.
CURVE, POINTS = (300, 120), 300
#: Orders of the index: what it calls them, and what of an item they go by.
ORDERS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "given": ("order", lambda item: 0),
    "name": ("name", lambda item: item["name"]),
    "gain": ("gain", lambda item: -(item["result"].gain or 0)),
    "seen": ("visible change", lambda item: -item["result"].contrast),
}


class FooledReport:
    """The report of a run. Pictures that `add` is given while they are in memory are not decoded again."""

    def __init__(self) -> None:
        self._drawn: dict[str, dict[str, Any]] = {}

    def add(self, result: Result, original: Image.Image, fooled: Image.Image) -> None:
        """Draw what the report shows of a picture: its figures, the original and the written file, both RGB."""
        self._drawn[result.key] = _pictures(result, original, fooled)

    def page(self, folder: Path, results: Sequence[Result], failures: Sequence[Failure] = ()) -> str:
        """The report as HTML, for a file in `folder`. Pictures of earlier runs are read from the files of results."""
        shown = html.names([result.source for result in results])
        items = [
            {"name": name} | _item(folder, result) | (self._drawn.get(result.key) or _read(result))
            for name, result in zip(shown, results, strict=True)
        ]
        for item in items[CLOSE:]:
            item["closer"] = None
        for name, (_, value) in ORDERS.items():
            for place, item in enumerate(sorted(items, key=value)):
                item.setdefault("places", {})[name] = place
        return html.page(
            "fooled.html",
            items=items,
            failures=failures,
            summary=_summary(results) if results else None,
            orders={name: says for name, (says, _) in ORDERS.items()},
            index_from=INDEX,
        )

    def write(self, path: Path, results: Sequence[Result], failures: Sequence[Failure]) -> None:
        """Write the report as one HTML file."""
        files.write_text(path, self.page(path.parent, results, failures))


def _summary(results: Sequence[Result]) -> dict[str, Any]:
    before, after = mean([result.score_before for result in results]), mean([result.score_after for result in results])
    counts = sorted({len(result.prompts) for result in results})
    prompts = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) + f" prompt{'s' if counts[-1] != 1 else ''}"
    same = all(result.prompts == results[0].prompts for result in results)
    return {
        "prompts": prompts if same else f"{prompts} each",  # "10 prompts" for all, or "1 to 3 prompts each"
        "before": before,
        "after": after,
        "gain": after / before - 1 if before > 0 else None,
        "psnr": min((result.psnr_seen for result in results if result.psnr_seen is not None), default=None),
        "flip99": max(result.flip99 for result in results),
        "contrast": max(result.contrast for result in results),
    }


def _item(folder: Path, result: Result) -> dict[str, Any]:
    output, bounds = Path(result.output), result.config.get("budgets", [])
    prompts = result.prompts or ["(a score without prompts)"]
    return {
        "result": result,
        "link": output.name if output.parent == folder else result.output,
        "budget": f"budget {', '.join(bounds)}" if bounds else "no budget",
        "bars": list(zip(prompts, result.scores_before, result.scores_after, strict=True)),
        "top": max(*result.scores_before, *result.scores_after, 1e-9),
        "curve": _curve(result),
    }


def _read(result: Result) -> dict[str, Any]:
    """What is shown of a picture whose files are read; files that have gone since are left out."""
    found: list[Image.Image | None] = [None, None]
    for place, path in enumerate((result.source, result.output)):
        with suppress(ImageError):
            found[place] = images.read(path)
    return _pictures(result, *found)


def _pictures(result: Result, original: Image.Image | None, fooled: Image.Image | None) -> dict[str, Any]:
    """The pictures with their captions, and the part that changed most."""
    captions = (f"original: score {result.score_before:.3f}", f"fooled: score {result.score_after:.3f}")
    shown = [(text, html.picture(image)) for text, image in zip(captions, (original, fooled), strict=True) if image]
    if not (original and fooled):
        return {"shown": shown, "closer": None}
    change, factor = difference(original, fooled)
    shown.append((f"difference, amplified {factor} times around mid-gray", html.picture(change)))
    return {"shown": shown, "closer": _closer(original, fooled)}


def _closer(original: Image.Image, fooled: Image.Image) -> dict[str, Any]:
    """The part that changed most, before and after, pixel by pixel, and a map of how visible its change is."""
    box = most_changed(original, fooled, PART)
    before, after = original.crop(box), fooled.crop(box)
    seen = Comparison(images.to_tensor(after), images.to_tensor(before)).map("flip")
    colours = matplotlib.colormaps["magma"](seen / MAP_TOP, bytes=True)
    return {
        "before": html.exact(before),
        "after": html.exact(after),
        "width": before.width,
        "height": before.height,
        "times": ENLARGED,
        "map": html.picture(Image.fromarray(colours).convert("RGB")),
        "top": MAP_TOP,
        "whole": before.size == original.size,
    }


def most_changed(original: Image.Image, fooled: Image.Image, side: int) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) with `side` pixels on each side around the place that changed most."""
    change = ImageChops.difference(original, fooled).convert("L")
    change.thumbnail((PLACES, PLACES), Image.Resampling.BOX)
    places = np.asarray(change)
    row, column = np.unravel_index(int(places.argmax()), places.shape)
    lengths = zip((column, row), change.size, original.size, strict=True)
    left, top = (
        round(min(max((place + 0.5) / count * length - side / 2, 0), max(length - side, 0)))
        for place, count, length in lengths
    )
    return left, top, min(left + side, original.width), min(top + side, original.height)


def difference(original: Image.Image, fooled: Image.Image) -> tuple[Image.Image, int]:
    """What was added around mid-gray, amplified by the largest whole number at which 99.9 % of it still fit."""
    sizes = np.reshape(ImageChops.difference(original, fooled).histogram(), (-1, 256)).sum(axis=0).cumsum()
    peak = int(np.searchsorted(sizes, 0.999 * sizes[-1]))
    factor = max(1, int(127 / max(peak, 1)))
    change = np.asarray(fooled, dtype=np.int16)
    change -= np.asarray(original)
    change *= factor
    change += 128
    return Image.fromarray(change.clip(0, 255, out=change).astype(np.uint8)), factor


def _curve(result: Result) -> dict[str, Any]:
    """Mean score of the 8-bit iterate over steps: a line in a box of size `CURVE`, whose top is the highest score.

    The page draws it itself: a run of 500 pictures would take seconds to open with as many figures of matplotlib.
    """
    (width, height), (last, _) = CURVE, result.curve[-1]
    scores = [score for _, score in result.curve]
    low, high = min(*scores, result.score_before), max(*scores, result.score_before)

    def down(score: float) -> float:
        return height * (high - score) / max(high - low, 1e-9)

    shown = [*result.curve[:: max(1, len(scores) // POINTS)], result.curve[-1]]
    line = " ".join(f"{width * step / max(last, 1):.1f},{down(score):.1f}" for step, score in shown)
    return {"line": line, "original": down(result.score_before), "low": low, "high": high, "last": last}
