"""The kinds of figures that studies draw, in one style."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from foclip.studies.harness.statistics import Estimate

ORIGINAL, FOOLED = "#6b6870", "#b3261e"
#: Further colours, told apart by readers who see few.
COLORS = (FOOLED, "#1a5fb4", "#2a7d4f", "#b36b00", "#7a3e9d", ORIGINAL, "#00809d", "#8f6a52")


def bars(estimates: Mapping[str, Estimate], label: str) -> Figure:
    """One horizontal bar per name, with its interval."""
    plot = Figure(figsize=(6.4, 0.5 + 0.32 * len(estimates)))
    axes = plot.subplots()
    draw_bars(axes, estimates, label)
    return plot


def draw_bars(axes: Axes, estimates: Mapping[str, Estimate], label: str) -> None:
    """The bars of `bars` in axes of one's own."""
    values = np.array([estimate.value for estimate in estimates.values()])
    places = range(len(estimates))
    axes.barh(places, values, color=[_color(name) for name in estimates], alpha=0.75)
    axes.errorbar(values, places, xerr=arms(list(estimates.values())), fmt="none", ecolor="black", elinewidth=1)
    axes.set_yticks(places, list(estimates))
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel(label)
    tidy(axes)


def _color(name: str) -> str:
    return ORIGINAL if name.startswith("original") or name.startswith("real") else FOOLED


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[Estimate]]], x: str, y: str, logarithmic: bool = False
) -> Figure:
    """One line per name with its 95 % band."""
    plot = Figure(figsize=(5.6, 3.2))
    draw_lines(plot.subplots(), series, x, y, logarithmic)
    return plot


def draw_lines(
    axes: Axes,
    series: Mapping[str, tuple[Sequence[float], Sequence[Estimate]]],
    x: str,
    y: str,
    logarithmic: bool = False,
) -> None:
    """The lines of `lines` in axes of one's own."""
    for number, (name, (places, estimates)) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        axes.plot(places, [estimate.value for estimate in estimates], "o-", color=color, markersize=3.5, label=name)
        low, high = ([getattr(estimate, end) for estimate in estimates] for end in ("low", "high"))
        axes.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)
    tidy(axes)


def heatmap(
    values: npt.NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], x: str, y: str, label: str
) -> Figure:
    """A matrix (rows, columns) with its numbers in the cells."""
    plot = Figure(figsize=(2.6 + 0.9 * len(columns), 1.4 + 0.45 * len(rows)))
    axes = plot.subplots()
    shown = axes.imshow(values, cmap="viridis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        ink = "white" if value < (np.nanmin(values) + np.nanmax(values)) / 2 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=9)
    axes.set_xticks(range(len(columns)), columns, rotation=20, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    plot.colorbar(shown, ax=axes, label=label)
    return plot


def gallery(columns: Mapping[str, Sequence[Image.Image]], captions: Mapping[str, Sequence[str]]) -> Figure:
    """Pictures side by side: a named column per condition, a caption under every picture."""
    count = max(map(len, columns.values()))
    plot = Figure(figsize=(1.6 * len(columns), 1.75 * count), layout="constrained")
    grid = plot.subplots(count, len(columns), squeeze=False)
    for column, (name, pictures) in enumerate(columns.items()):
        grid[0, column].set_title(name, fontsize=9)
        for row, (picture, caption) in enumerate(zip(pictures, captions[name], strict=True)):
            axes = grid[row, column]
            axes.imshow(picture)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            axes.set_xlabel(caption, fontsize=8)
    return plot


def tidy(axes: Axes) -> None:
    """No frame where nothing is measured."""
    axes.spines[["top", "right"]].set_visible(False)


def arms(estimates: Sequence[Estimate]) -> Any:
    """Lengths of error bars (2, N); none where there is no interval."""
    found = [(estimate.value - estimate.low, estimate.high - estimate.value) for estimate in estimates]
    return np.nan_to_num(np.array(found).T).clip(min=0)
