"""Spectrum: what in the pixels and in the embedding tells fooled pictures from originals?

Radial power spectra of luma and chroma, how the energy of the perturbation is shared between
them, local statistics of the pixels, and where the embedding lies between pictures and texts. Each is
one figure per picture, so each has an effect size: Cohen's d, and the area under the ROC curve.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import false_discovery_control

from foclip.reports import drawing
from foclip.studies.harness import Rows, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Floats, auc, effect, groups, mean, pairs, percent, quantities, signed_rank

#: JPEG's luma and chroma (ITU-R BT.601, full range) from RGB; the rows are Y, Cb, Cr.
YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
CHANNELS = ("Y", "Cb", "Cr")
#: Rings of equal width up to the highest frequency of both axes, 0.5 cycles per pixel.
RINGS = 16
#: Share of false discoveries among the quantities that are said to differ.
LEVEL = 0.05
POWER, DISTANCE = "power", "distance to the prompts' centroid"


def radial_spectrum(channel: Floats) -> Floats:
    """Mean power per ring (RINGS,) of a channel (H, W) in 8-bit levels, its mean removed and a Hann window laid on."""
    height, width = channel.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    power = np.abs(np.fft.fft2((channel - channel.mean()) * window)) ** 2 / (window**2).sum()
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    ring = np.minimum((radius / 0.5 * RINGS).astype(int), RINGS).ravel()  # corners beyond 0.5: one ring too many
    total, count = np.bincount(ring, power.ravel(), RINGS + 1), np.bincount(ring, minlength=RINGS + 1)
    return np.asarray(total / np.maximum(count, 1))[:RINGS]


def frequencies() -> Floats:
    """Middle of every ring, in cycles per pixel."""
    return np.asarray((np.arange(RINGS) + 0.5) * 0.5 / RINGS)


def planes(picture: Picture) -> dict[str, Floats]:
    """Y, Cb and Cr of a picture, (H, W) each, in 8-bit levels."""
    pixels = np.asarray(picture.image, dtype=np.float64) @ YCBCR.T
    return {name: pixels[..., number] for number, name in enumerate(CHANNELS)}


def local_statistics(bands: Mapping[str, Floats]) -> dict[str, float]:
    """Per channel: share of power in the upper half of the rings, noise, and correlation of neighbours.

    Noise is the median absolute value of the mixed second difference over 0.6745 · 2, robust to edges.
    """
    found = {}
    for name, band in bands.items():
        power = radial_spectrum(band)
        mixed = band[1:, 1:] - band[1:, :-1] - band[:-1, 1:] + band[:-1, :-1]
        left, right = band[:, :-1].ravel(), band[:, 1:].ravel()
        flat = left.std() == 0 or right.std() == 0
        found[f"high-frequency share of {name}"] = float(power[RINGS // 2 :].sum() / max(power.sum(), 1e-12))
        found[f"noise in {name}"] = float(np.median(np.abs(mixed)) / (2 * 0.6745))
        found[f"neighbours' correlation in {name}"] = 1.0 if flat else float(np.corrcoef(left, right)[0, 1])
    chroma = bands["Cb"].var() + bands["Cr"].var()
    return found | {"chroma share of the variance": float(chroma / max(chroma + bands["Y"].var(), 1e-12))}


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × quantities (power: × channel and frequency), of originals, fooled ones and what was added."""
    rows: Rows = []
    originals, encoder = context.examples, context.score.encoder
    fooled = context.fool(context.default_attack(), originals)
    texts = encoder.encode_texts(context.prompts).mean(dim=0)
    for kind, current in context.with_progress([("original", originals), ("fooled", fooled)]):
        for picture, seen in zip(current, context.sensitivities(current), strict=True):
            who = {"picture": picture.name, "photo": picture.photo, "kind": kind}
            bands = planes(picture)
            gap = float((encoder.encode_pictures([picture.image])[0] - texts).norm())
            values = local_statistics(bands) | {DISTANCE: gap}
            values |= {f"drop under {name}": value for name, value in seen.drops.items()}
            values |= {f"drift under {name}": value for name, value in seen.drifts.items()}
            rows += quantities(who, values) + _power(who, bands)
    for before, after in zip(originals, fooled, strict=True):
        who = {"picture": before.name, "photo": before.photo, "kind": "perturbation"}
        old, new = planes(before), planes(after)
        added = {name: new[name] - old[name] for name in CHANNELS}
        energy = {f"energy in {name}": float((band**2).mean()) for name, band in added.items()}
        rows += _power(who, added) + quantities(who, energy)
    return pd.DataFrame(rows)


def _power(who: dict[str, Any], bands: Mapping[str, Floats]) -> Rows:
    return [
        who | {"quantity": POWER, "channel": name, "frequency": float(frequency), "value": float(value)}
        for name, band in bands.items()
        for frequency, value in zip(frequencies(), radial_spectrum(band), strict=True)
    ]


def report(table: pd.DataFrame) -> StudyReport:
    """Spectra, and effect sizes with intervals."""
    single = table[(table.quantity != POWER) & (table.kind != "perturbation")]
    rows, areas, tells, chances = {}, {}, {}, []
    for quantity, part in groups(single, "quantity").items():
        pair = pairs(part[part.kind == "original"], part[part.kind == "fooled"])
        columns = (pair.value, pair.value_other, pair.photo)
        area, size = auc(*columns), effect(*columns)
        chances.append(signed_rank(*columns))
        areas[quantity], tells[quantity] = area, f"{quantity}: AUC {area:.2f}, d = {size:+.1f}"
        rows[quantity] = {
            "quantity": quantity,
            "originals": f"{mean(pair.value, pair.photo):.3f}",
            "fooled": f"{mean(pair.value_other, pair.photo):.3f}",
            "Cohen's d": f"{size:+.2f}",
            "AUC": f"{area:.2f}",
        }
    order = sorted(areas, key=lambda name: -abs(areas[name].value - 0.5))
    energy = table[table.quantity.str.startswith("energy in")]
    energy = energy.pivot_table(index=["photo", "picture"], columns="quantity", values="value")
    chroma = energy[["energy in Cb", "energy in Cr"]].sum(axis=1)
    chroma_share = mean((chroma / (chroma + energy["energy in Y"])).to_numpy(), energy.index.get_level_values("photo"))
    added = table[(table.quantity == POWER) & (table.kind == "perturbation")]
    power = added.groupby("frequency").value.mean() * frequencies()  # a ring's area grows with its radius
    half = power.index[int(np.searchsorted((power.cumsum() / power.sum()).to_numpy(), 0.5))]
    separating = np.flatnonzero(false_discovery_control(chances) < LEVEL)
    pixels = [name for name in order if not name.startswith(("drop", "drift", "distance"))]
    paragraph = (
        f"Of {len(order)} quantities, {len(separating)} differ between originals and fooled pictures beyond chance "
        f"(signed-rank test over photos, false discoveries among all of them held at {percent(LEVEL)}). The strongest "
        f"is {tells[order[0]]}. Of those that need no encoder it is {tells[pixels[0]]}. {chroma_share:.0%} of the "
        f"perturbation's energy is chroma, which gray takes away; half of its power lies below {half:.2f} "
        "cycles per pixel. (AUC: the chance that a fooled picture lies above an original.)"
    )
    distances = {}  # from 0.5, on whichever side
    for name in order:
        above = areas[name].value >= 0.5
        distances[name] = areas[name].changed((lambda area: area - 0.5) if above else (lambda area: 0.5 - area))
    figures = {
        "power-spectra": _spectra(table),
        "area-under-the-curve": plots.bars(distances, "|AUC − ½|, originals against fooled: 0 tells nothing apart"),
    }
    return StudyReport(pd.DataFrame([rows[name] for name in order]), figures, [paragraph])


def _spectra(table: pd.DataFrame) -> Figure:
    power = table[table.quantity == POWER]
    plot = Figure(figsize=(9.6, 2.9))
    kinds = {"original": plots.ORIGINAL, "fooled": plots.FOOLED, "perturbation": "#1a5fb4"}
    for axes, channel in zip(plot.subplots(1, 3, sharey=True), CHANNELS, strict=True):
        for kind, color in kinds.items():
            part = power[(power.kind == kind) & (power.channel == channel)]
            means = part.groupby("frequency").value.mean()
            axes.plot(means.index, means.clip(lower=1e-3), color=color, label=kind)
        axes.set_yscale("log")
        axes.set_title(channel, fontsize=10)
        drawing.tidy(axes, "cycles per pixel")
    drawing.tidy(plot.axes[0], "cycles per pixel", "power", legend=8)
    return plot


study = Study(__name__, __doc__, table, report, judged=False)
