"""The kinds of figures that studies draw, in one style."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foclip.reports import drawing
from foclip.studies.harness.context import StudyContext
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Estimate

ORIGINAL, FOOLED = "#6b6870", drawing.FOOLED
#: Further colours, told apart by readers who see few.
COLORS = (FOOLED, "#1a5fb4", "#2a7d4f", "#b36b00", "#7a3e9d", ORIGINAL, "#00809d", "#8f6a52")

#: Size of a figure with several panels side by side, in inches.
WIDE = (9.6, 2.9)
#: Places and estimates of a line.
Line = tuple[Sequence[float], Sequence[Estimate]]
#: Left, top, right and bottom of a part of a picture, in pixels.
Box = tuple[int, int, int, int]


def bars(estimates: Mapping[str, Estimate], label: str) -> Figure:
    """One horizontal bar per name, with its interval."""
    plot = Figure(figsize=(6.4, 0.5 + 0.32 * len(estimates)))
    draw_bars(plot.subplots(), estimates, label)
    return plot


def draw_bars(axes: Axes, estimates: Mapping[str, Estimate], label: str) -> None:
    """The bars of `bars`, in given axes."""
    values = np.array([estimate.value for estimate in estimates.values()])
    places = range(len(estimates))
    colors = [ORIGINAL if name.startswith(("original", "real")) else FOOLED for name in estimates]
    axes.barh(places, values, color=colors, alpha=0.75)
    axes.errorbar(values, places, xerr=arms(list(estimates.values())), fmt="none", ecolor="black", elinewidth=1)
    axes.set_yticks(places, list(estimates))
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    drawing.tidy(axes, label)


def lines(
    x: str | Sequence[str],
    panels: Mapping[str, Mapping[str, Line]],
    size: tuple[float, float] = (5.6, 3.2),
    logarithmic: bool = False,
    sharey: bool = False,
) -> Figure:
    """Panels over `x`, by the label of their other axis, side by side: in each a line per name with its 95 % band.

    `x` is one label, or one for each panel.
    """
    labels = [x] * len(panels) if isinstance(x, str) else x
    plot = Figure(figsize=size, layout="constrained" if sharey else None)
    row = plot.subplots(1, len(panels), sharey=sharey, squeeze=False)[0]
    for axes, across, (y, series) in zip(row, labels, panels.items(), strict=True):
        for number, (name, (places, estimates)) in enumerate(series.items()):
            color = COLORS[number % len(COLORS)]
            axes.plot(places, [estimate.value for estimate in estimates], "o-", color=color, markersize=3.5, label=name)
            low, high = ([getattr(estimate, end) for estimate in estimates] for end in ("low", "high"))
            axes.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
        if logarithmic:
            axes.set_xscale("log")
        drawing.tidy(axes, across, y, legend=8 if len(series) > 1 else 0)
    return plot


def heatmap(table: pd.DataFrame, x: str, y: str, label: str) -> Figure:
    """A matrix with its numbers in the cells."""
    values = table.to_numpy(dtype=np.float64)
    plot = Figure(figsize=(2.6 + 0.9 * len(table.columns), 1.4 + 0.45 * len(table)))
    axes = plot.subplots()
    shown = axes.imshow(values, cmap="viridis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        ink = "white" if value < (np.nanmin(values) + np.nanmax(values)) / 2 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=9)
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=20, ha="right")
    axes.set_yticks(range(len(table)), table.index)
    axes.set(xlabel=x, ylabel=y)
    plot.colorbar(shown, ax=axes, label=label)
    return plot


def gallery(
    context: StudyContext, columns: Mapping[str, Sequence[Picture]], boxes: Sequence[Box | None] | None = None
) -> Figure:
    """Pictures side by side, each over its mean score: a named column per condition, of each row all or a box."""
    count = max(map(len, columns.values()))
    plot = Figure(figsize=(1.6 * len(columns), 1.75 * count), layout="constrained")
    grid = plot.subplots(count, len(columns), squeeze=False)
    for column, (name, pictures) in enumerate(columns.items()):
        grid[0, column].set_title(name, fontsize=9)
        scores = context.scores(pictures).mean(axis=1)
        for axes, picture, score, box in zip(grid[:, column], pictures, scores, boxes or [None] * count, strict=False):
            axes.imshow(picture.image.crop(box))
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.set_xlabel(f"{score:.2f}", fontsize=8)
    return plot


def arms(estimates: Sequence[Estimate]) -> Any:
    """Lengths of error bars (2, N); none where there is no interval."""
    found = [(estimate.value - estimate.low, estimate.high - estimate.value) for estimate in estimates]
    return np.nan_to_num(np.array(found).T).clip(min=0)
