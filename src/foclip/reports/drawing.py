"""Drawing: figures of matplotlib in the style of our pages, which show them as inline SVG."""

import io

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foclip.detection import Sweep, TwoThresholds

#: Colours of what is fooled, and of what is not.
FOOLED, CLEAN = "#b3261e", "#555555"


def axes_of(width: float, height: float, x: str, y: str) -> tuple[Figure, Axes]:
    """A figure with one plot, and that plot with its labels."""
    plot = Figure(figsize=(width, height))
    axes = plot.subplots()
    tidy(axes, x, y)
    return plot, axes


def tidy(axes: Axes, x: str = "", y: str = "", legend: int = 0) -> None:
    """Labels, a legend in a size if one is given, and no frame where nothing is measured."""
    axes.set(xlabel=x, ylabel=y)
    if legend:
        axes.legend(frameon=False, fontsize=legend)
    axes.spines[["top", "right"]].set_visible(False)


def surface(swept: Sweep, chosen: TwoThresholds) -> Figure:
    """Accuracy of the paper's rule over both thresholds, and the pair that was chosen."""
    plot = Figure(figsize=(4.6, 3.6))
    axes = plot.subplots()
    mesh = axes.pcolormesh(swept.tau2, swept.tau1, swept.accuracy, vmin=0.5, vmax=1, rasterized=True)
    axes.plot(chosen.tau2, chosen.tau1, "o", color=FOOLED, markeredgecolor="white")
    axes.set(xlabel="τ₂ on drift", ylabel="τ₁ on drop")
    plot.colorbar(mesh, ax=axes, label="balanced accuracy")
    return plot


def svg(plot: Figure) -> Markup:
    """A matplotlib figure as inline SVG, the same bytes for the same figure."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "foclip", "svg.fonttype": "none"}):
        plot.savefig(
            buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None, "Creator": None}
        )
    drawn = buffer.getvalue()
    # Our own drawing, and matplotlib escapes the text in it.
    return Markup(drawn[drawn.index("<svg") :])  # noqa: S704
