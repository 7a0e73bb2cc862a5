"""Grayscale: how much score do originals and fooled pictures lose without colour?

Fooled pictures are scored with the ten artwork prompts that they were fooled for. Photos hardly match these, and a
share of a score near zero means little, so the originals are scored with a prompt that fits: the ImageNet caption with
the highest score. Gray replaces all colour; further rows replace one channel at a time by luma. And do the fooled
pictures keep the colour statistics of their originals, as the paper says?
"""

import numpy as np
import pandas as pd

from foclip.data.prompts import imagenet
from foclip.studies.harness import PaperComparison, Rows, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import groups, lead, means, percent, quantities, relative_drop

TITLES, CAPTION, NONE = "artworks", "its own caption", "no prompts"
CHANNELS = ("gray", "red", "green", "blue")


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × quantities, of originals and fooled ones, with each kind of prompts."""
    rows: Rows = []
    fooled = context.fool(context.default_attack(), context.pictures)
    captions = imagenet(1000)
    best = [captions[place] for place in context.scores(context.pictures, captions).argmax(axis=1)]
    for kind, current in context.with_progress([("original", context.pictures), ("fooled", fooled)]):
        for picture, caption in zip(current, best, strict=True):
            who = {"picture": picture.name, "photo": picture.photo, "kind": kind}
            for prompts, texts in ((TITLES, list(context.prompts)), (CAPTION, [caption])):
                (found,) = context.sensitivities([picture], texts)
                values = {"score": found.score} | {f"score {name}": value for name, value in found.scores.items()}
                rows += quantities(who | {"prompts": prompts}, values)
            rows += quantities(who | {"prompts": NONE}, colours(picture))
    return pd.DataFrame(rows)


def colours(picture: Picture) -> dict[str, float]:
    """Mean and standard deviation of each channel (8-bit levels), saturation, and colourfulness.

    Colourfulness is that of Hasler and Süsstrunk 2003.
    """
    pixels = np.asarray(picture.image, dtype=np.float64)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    opponents = np.stack([red - green, (red + green) / 2 - blue])
    saturation = (pixels.max(axis=-1) - pixels.min(axis=-1)) / pixels.max(axis=-1).clip(1)
    bands = dict(zip(CHANNELS[1:], (red, green, blue), strict=True))
    spread, center = (np.hypot(*values) for values in (opponents.std(axis=(1, 2)), opponents.mean(axis=(1, 2))))
    found = {f"mean {name}": band.mean() for name, band in bands.items()}
    found |= {f"deviation {name}": band.std() for name, band in bands.items()}
    return found | {"saturation": saturation.mean(), "colourfulness": float(spread + 0.3 * center)}


def report(table: pd.DataFrame) -> StudyReport:
    """Share of the mean score lost per channel, and colour statistics before and after."""
    wide = table[table.prompts != NONE]
    wide = wide.pivot_table("value", ["photo", "picture", "kind", "prompts"], "quantity", sort=False).reset_index()
    summary, drops = [], {}
    titles = {name: "lost in gray" if name == "gray" else f"lost: {name} as luma" for name in CHANNELS}
    for (kind, prompts), part in groups(wide, "kind", "prompts").items():
        lost = {name: relative_drop(part.score, part[f"score {name}"], part.photo) for name in CHANNELS}
        drops[kind, prompts] = lost
        row = {"": kind, "prompts": prompts} | means(part, "score")
        summary.append(row | {titles[name]: f"{each:.1%}" for name, each in lost.items()})
    original, fooled = drops["original", CAPTION], drops["fooled", TITLES]
    bars = {f"original, {name}": lost for name, lost in original.items()}
    bars |= {f"fooled, {name}": lost for name, lost in fooled.items()}
    worst = max(CHANNELS[1:], key=lambda name: fooled[name].value)
    findings = [
        f"In gray, originals lose {original['gray']:.1%} of their mean score with a caption that fits, fooled pictures "
        f"{fooled['gray']:.1%} of theirs with the prompts they were fooled for.",
        f"Of single channels, replacing {worst} by luma takes most from fooled pictures ({fooled[worst]:.1%}).",
        *_consistency(table[table.prompts == NONE]),
    ]
    comparisons = [
        PaperComparison("score lost in gray, originals with a caption that fits", 0.085, original["gray"]),
        PaperComparison("score lost in gray, fooled pictures", 0.632, fooled["gray"]),
    ]
    figures = {"score-lost": plots.bars(bars, "share of the mean score lost")}
    return StudyReport(pd.DataFrame(summary), figures, findings, comparisons)


def _consistency(table: pd.DataFrame) -> list[str]:
    """Colour statistics before and after, and how large the changes are among photos."""
    sentences = []
    for quantity, part in groups(table, "quantity").items():
        original, fooled = (part[part.kind == kind] for kind in ("original", "fooled"))
        change, deviation = lead(fooled, original, "value"), original.value.std()
        if abs(change.value) > 0.1 * deviation:
            sentences.append(
                f"Not kept: {quantity} changes by {change:+.2f}, {percent(abs(change.value) / deviation)} of its "
                "standard deviation among the photos."
            )
    count, kept = table.quantity.nunique(), table.quantity.nunique() - len(sentences)
    rest = f"{kept} of {count} colour statistics stay within a tenth of their standard deviation among the photos."
    return [*sentences, rest]


study = Study(__name__, __doc__, table, report, judged=False)
