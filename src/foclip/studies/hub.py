"""Hub: for how many captions does one fooled picture rank above every genuine photograph?

Whoever searches a collection with a caption gets the pictures that score highest. A picture that comes first for most
captions is a hub. Hubs that nobody made are known from retrieval; Zhang et al. (2024, arXiv 2412.14113) made one that
comes first for more than 21,000 of 25,000 queries. Here each photo is fooled for 10, 100 or 1,000 class captions of
ImageNet at once, within 35 and 40 dB. It is then ranked among genuine photographs for the captions it was fooled for,
and for all others of the thousand: as it was written, and after it was saved as JPEG 85.
"""

import io

import numpy as np
import pandas as pd
from PIL import Image

from foclip.studies.harness import Study, StudyContext, StudyReport, plots
from foclip.studies.harness import pictures as photos
from foclip.studies.harness.context import candidates
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Estimate, Floats, Rows, groups, mean, percent

#: Captions that a picture is fooled for, and budgets in dB.
COUNTS, BUDGETS = (10, 100, 1000), (35.0, 40.0)
#: Photos to fool (quick run, full run), and genuine photographs of the user's folder that they are ranked among.
QUICK, FULL, GENUINE = 2, 8, 500
#: What happens to the written file.
WRITTEN, SAVED, QUALITY = "as written", "saved as JPEG 85", 85
#: The pictures before the attack.
UNTOUCHED = "original"


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × budgets × numbers of captions × what happened to the file; and the originals."""
    pictures = context.pictures[: QUICK if context.settings.quick else FULL]
    captions, own = candidates(), {picture.photo for picture in pictures}
    counts = [count for count in COUNTS if count <= len(captions)]
    others = [picture for picture in gallery(context) if picture.photo not in own]
    highest = context.scores(others, captions).max(axis=0)
    plan = [(budget, count) for budget in BUDGETS for count in counts]
    rows = ranked(context, pictures, captions, highest, len(captions), budget=np.nan, file=UNTOUCHED)
    for budget, count in context.with_progress(plan):
        attack = context.default_attack().replace(budgets=f"psnr:{budget:g}")
        fooled = context.fool(attack, pictures, captions[:count])
        for file, current in ((WRITTEN, fooled), (SAVED, [saved(picture) for picture in fooled])):
            rows += ranked(context, current, captions, highest, count, budget=budget, file=file)
    return pd.DataFrame(rows).assign(genuine=len(others))


def gallery(context: StudyContext) -> list[Picture]:
    """Genuine photographs: of the user's folder, or crops of the photos that come with dependencies."""
    folder, seed = context.settings.images, context.settings.seed
    return photos.read(photos.choose(folder, GENUINE, seed), context.side, []) if folder else context.examples


def saved(picture: Picture) -> Picture:
    """The picture as its file saved as JPEG shows it."""
    buffer = io.BytesIO()
    picture.image.save(buffer, "JPEG", quality=QUALITY)
    return Picture(picture.name, picture.photo, Image.open(buffer).convert("RGB"), picture.figures)


def ranked(
    context: StudyContext, pictures: list[Picture], captions: list[str], highest: Floats, count: int, **same: object
) -> Rows:
    """A row per picture: the shares of captions, fooled for (the first `count`) and others, for which it comes first.

    `highest` (T,) is the best score of any genuine photograph for each caption.
    """
    found: Rows = []
    for picture, scores in zip(pictures, context.scores(pictures, captions), strict=True):
        first = scores > highest
        others = first[count:].mean() if count < len(captions) else np.nan
        row = {"picture": picture.name, "photo": picture.photo, "captions": count, "score": scores[:count].mean()}
        found.append(same | row | {"first": first[:count].mean(), "first_others": others} | picture.figures)
    return found


def report(table: pd.DataFrame) -> StudyReport:
    """Shares of captions for which a picture comes first, by budget and number of captions."""
    summary, shares = [], dict[tuple[str, float], list[Estimate]]()
    for (file, budget, captions), part in groups(table.fillna({"budget": 0}), "file", "budget", "captions").items():
        first = mean(part["first"], part.photo)
        shares.setdefault((file, budget), []).append(first)
        row = {
            "file": file,
            "budget / dB": f"{budget:g}" if budget else "–",
            "captions": captions,
            "pictures": len(part),
        }
        row |= {"score": f"{mean(part.score, part.photo):.3f}", "comes first for": f"{first:.1%}"}
        summary.append(row | {"for other captions": f"{mean(part.first_others, part.photo):.1%}"})
    fooled = table[table.file != UNTOUCHED]
    most, genuine = int(fooled.captions.max()), int(table.genuine.iloc[0])
    findings = []
    for (budget, file), part in groups(fooled[fooled.captions == most], "budget", "file").items():
        least, share = part["first"].min(), mean(part["first"], part.photo)
        findings.append(
            f"Within {budget:g} dB, {file}, one picture comes before all {genuine} genuine photographs for "
            f"{share:.1%} of {most:,} captions ({percent(least)} for the worst of {len(part)} pictures)."
        )
    before = table[table.file == UNTOUCHED]
    findings.append(f"The originals come first for {mean(before['first'], before.photo):.1%}.")
    panels = {}
    for file in (WRITTEN, SAVED):
        lines = {f"{budget:g} dB": (sorted(set(fooled.captions)), shares[file, budget]) for budget in BUDGETS}
        panels[f"comes first, {file}"] = lines
    figures = {"comes-first": plots.lines("captions fooled for", panels, plots.WIDE, logarithmic=True, sharey=True)}
    return StudyReport(pd.DataFrame(summary), figures, findings)


study = Study(__name__, __doc__, table, report, judged=False)
