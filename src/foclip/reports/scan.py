"""The report of `foclip scan`: one page."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from foclip import __version__, files
from foclip.data import images
from foclip.data.sources import Columns, items, load_bytes
from foclip.errors import FoclipError
from foclip.reports.html import figure, picture, render
from foclip.scanning.output import Folder
from foclip.scanning.summary import BINS, VERDICTS, Example, Summary

#: Bars of a histogram.
BARS = 50
COLOURS = {"clean": "#555555", "tampered": "#b3261e", "undecidable": "#c9a227", "": "#555555"}


def write(path: Path, folder: Folder, summary: Summary) -> None:
    """Write the report of a scan as one HTML file.

    The pictures that it shows are read from the sources again. Those that are gone by now are left out.

    Args:
        path: The file.
        folder: The scan.
        summary: What it found.
    """
    manifest = folder.manifest() or {}
    decided = summary.verdicts["clean"] + summary.verdicts["tampered"]
    html = render(
        "scan.html",
        summary=summary,
        verdicts=VERDICTS,
        manifest=manifest,
        histogram=figure(_histogram(summary)) if summary.scored else None,
        caught=figure(_caught(summary)) if summary.scored and decided else None,
        worst=list(_with_pictures(folder, summary.worst, Columns(**manifest["columns"]))),
        version=__version__,
    )
    files.write_text(path, html)


def _bars(summary: Summary) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Edges and counts per verdict, up to the highest score there is."""
    used = int(np.flatnonzero(sum(summary.scores.values()))[-1]) + 1
    width = -(-used // BARS)
    edges = np.arange(BARS + 1) * width * summary.highest / BINS
    folded = {}
    for verdict, counts in summary.scores.items():
        padded = np.zeros(BARS * width, dtype=np.int64)
        padded[: min(BINS, len(padded))] = counts[: len(padded)]
        folded[verdict] = padded.reshape(BARS, width).sum(axis=1)
    return edges, folded


def _histogram(summary: Summary) -> Figure:
    edges, folded = _bars(summary)
    plot = Figure(figsize=(6.0, 2.8))
    axes = plot.subplots()
    below = np.zeros(BARS)
    for verdict in VERDICTS if summary.judged else ("",):
        label = f"{verdict} ({summary.verdicts[verdict]:,})" if verdict else None
        axes.bar(edges[:-1], folded[verdict], np.diff(edges), below, align="edge", color=COLOURS[verdict], label=label)
        below = below + folded[verdict]
    axes.set_xlabel("score")
    axes.set_ylabel("pictures")
    if summary.judged:
        axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return plot


def _caught(summary: Summary) -> Figure:
    edges, folded = _bars(summary)
    tampered, decided = folded["tampered"], folded["tampered"] + folded["clean"]
    plot = Figure(figsize=(6.0, 2.8))
    axes = plot.subplots()
    share = np.divide(tampered, decided, out=np.full(BARS, np.nan), where=decided > 0)
    axes.bar(edges[:-1], 100 * share, np.diff(edges), align="edge", color=COLOURS["tampered"])
    axes.set_xlabel("score")
    axes.set_ylabel("called tampered / %")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    return plot


def _with_pictures(folder: Folder, worst: Sequence[Example], columns: Columns) -> Iterator[dict[str, Any]]:
    """The rows whose pictures can be read again, in their order, with these pictures as `image`."""
    shown: dict[tuple[int, int], str] = {}
    places: dict[int, set[int]] = {}
    for example in worst:
        places.setdefault(example.shard, set()).add(example.place)
    for shard in folder.shards():
        wanted = places.get(shard.number, set())
        try:
            for place, item in enumerate(items(shard, columns) if wanted else ()):
                if place in wanted:
                    shown[shard.number, place] = picture(images.decode(load_bytes(item).content, item.key))
                if place == max(wanted):
                    break
        except FoclipError:  # the source may be gone by now, or changed
            continue
    for example in worst:
        if (example.shard, example.place) in shown:
            yield example.row | {"image": shown[example.shard, example.place]}
