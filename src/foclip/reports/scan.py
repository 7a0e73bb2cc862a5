"""The report of `foclip scan`: one page."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from foclip import files
from foclip.data import images
from foclip.data.sources import Columns, items, load_bytes
from foclip.errors import FoclipError
from foclip.reports import drawing, html
from foclip.scanning.output import Folder
from foclip.scanning.summary import BINS, VERDICTS, Example, Summary

#: Bars of a histogram.
BARS = 50
COLOURS = {"clean": drawing.CLEAN, "tampered": drawing.FOOLED, "undecidable": "#c9a227", "": drawing.CLEAN}


def write(path: Path, folder: Folder, summary: Summary) -> None:
    """Write the report of a scan as one HTML file."""
    files.write_text(path, page(folder, summary))


def page(folder: Folder, summary: Summary) -> str:
    """The report of a scan as HTML.

    The pictures that it shows are read from the sources again. Those that are gone by now are left out.
    """
    manifest = folder.manifest() or {}
    return html.page(
        "scan.html",
        summary=summary,
        verdicts=VERDICTS,
        manifest=manifest,
        sources=html.names(manifest["sources"]),
        firsts={kind: _without_folders(example) for kind, example in summary.examples.items()},
        worst=list(_with_pictures(folder, summary.worst, Columns(**manifest["columns"]))),
        **_histograms(summary),
    )


def _without_folders(example: str) -> str:
    """The first row with an error, `source, key: error`, whose source is named without its folders."""
    source, comma, rest = example.partition(", ")
    return source.rpartition("/")[2] + comma + rest


def _histograms(summary: Summary) -> dict[str, Any]:
    """Scores by verdict and, below, the share called tampered by score; both up to the highest score there is."""
    if not summary.scored:
        return {"histogram": None, "shares": False}
    used = int(np.flatnonzero(sum(summary.scores.values()))[-1]) + 1
    width = -(-used // BARS)
    edges = np.arange(BARS + 1) * width * summary.highest / BINS
    rest = max(BARS * width - BINS, 0)
    padded = {verdict: np.pad(counts, (0, rest))[: BARS * width] for verdict, counts in summary.scores.items()}
    folded = {verdict: counts.reshape(BARS, width).sum(axis=1) for verdict, counts in padded.items()}
    tampered, decided = folded["tampered"], folded["tampered"] + folded["clean"]
    plot = Figure(figsize=(8.0, 4.6 if decided.any() else 2.8))
    top, *others = plot.subplots(2 if decided.any() else 1, 1, sharex=True, squeeze=False)[:, 0]
    below, widths = np.zeros(BARS), np.diff(edges)
    for verdict in VERDICTS if summary.judged else ("",):
        label = f"{verdict} ({summary.verdicts[verdict]:,})" if verdict else None
        top.bar(edges[:-1], folded[verdict], widths, below, align="edge", color=COLOURS[verdict], label=label)
        below = below + folded[verdict]
    drawing.tidy(top, "" if others else "score", "pictures")
    if summary.judged:
        top.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    for axes in others:
        share = np.divide(tampered, decided, out=np.full(BARS, np.nan), where=decided > 0)
        axes.bar(edges[:-1], 100 * share, widths, align="edge", color=COLOURS["tampered"])
        axes.set_ylim(0, 100)
        drawing.tidy(axes, "score", "called tampered / %")
    return {"histogram": drawing.svg(plot), "shares": bool(others)}


def _with_pictures(folder: Folder, worst: Sequence[Example], columns: Columns) -> Iterator[dict[str, Any]]:
    """The rows whose pictures can be read again, in their order, with these pictures as `image`."""
    shown: dict[tuple[int, int], str] = {}
    for shard in folder.shards():
        wanted = {example.place for example in worst if example.shard == shard.number}
        try:
            for place, item in enumerate(islice(items(shard, columns), max(wanted, default=-1) + 1)):
                if place in wanted:
                    shown[shard.number, place] = html.picture(images.decode(load_bytes(item).content, item.key))
        except FoclipError:  # the source may be gone by now, or changed
            continue
    for example in worst:
        if (example.shard, example.place) in shown:
            yield example.row | {"image": shown[example.shard, example.place]}
