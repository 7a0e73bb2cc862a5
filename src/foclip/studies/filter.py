"""Filter: how many boosted pictures get into a data set that a CLIP score has filtered?

Data sets are made from crawled pairs of picture and caption by keeping the pairs with the highest score. The baseline
of DataComp keeps the top 30 % (Gadre et al. 2023, arXiv 2304.14108). In this study one pair in ten has the caption of
another picture, and its picture is fooled until it scores high for that caption. How many of these pairs pass the
filter? How many are left once `foclip scan` has removed what its detector calls tampered? How many clean pairs are
removed with them?

The pictures are boosted in five ways: not at all; as far as possible within the default budget; just enough
to reach the best fifth of the clean pairs, since a higher score would be easier to detect; just enough by attackers
who know the detector's probes, so that the score stays high under all of them, on the hardened encoder too if there is
one; or as far as possible by attackers who know the detector itself, with its weights, and keep its statistic below
the threshold.

Scores, verdicts and the list of kept pairs are those of `foclip scan` with `--keep` and `--min-score`. Two more filters
stand beside it, of which no attacker here knows: a scan with a secret `--seed`, whose probes have other amounts; and,
where there are hardened encoders, the detector together with the lowest score of all encoders, of which again the top
30 % are kept.
"""

import io
import random
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet

from foclip import files
from foclip.attacks import UNNOTICED
from foclip.cache import Cache
from foclip.detection import Detector, hardened_scores
from foclip.scanning import Settings, scan
from foclip.scanning.exporting import export
from foclip.scanning.mapper import Mapper
from foclip.scanning.scanner import describe
from foclip.studies.adaptive import ALL, DETECTOR_SEEDS, ITSELF, NOTHING, TOO, Attacker, attackers
from foclip.studies.harness import Study, StudyContext, StudyReport, plots
from foclip.studies.harness.context import candidates
from foclip.studies.harness.detectors import detector
from foclip.studies.harness.pictures import CORNERS, Picture, choose, crops, read
from foclip.studies.harness.statistics import Estimate, groups, mean, percent, share

#: Pairs of the data set (quick run, full run), the share of mismatched pairs, and the share that passes the filter.
QUICK, FULL = 200, 2000
MISMATCHED, TOP = 0.1, 0.3
#: Quantile of the clean pairs' scores that is just enough.
ENOUGH = 0.8
#: Largest number of steps, as in `foclip fool`.
STEPS = 150
NOT, FAR, JUST = "not at all", "as far as it goes", "just enough"
KNOWING, MINIMISING = "just enough, knowing the probes", "as far as it goes, knowing the detector itself"
#: Columns of the table that say whether a filter keeps a pair, and what they are in words.
FILTERS = {
    "kept": "with the detector",
    "kept_seed": "with a secret seed",
    "kept_lowest": "with the detector and the lowest score",
}
#: Pairs of a row group. A worker of the scan processes one row group at a time.
GROUP = 128


@dataclass(frozen=True)
class Pair:
    """A picture with its caption in the data set, which may be the caption of another picture."""

    picture: Picture
    caption: str
    mismatched: bool


def pairs(context: StudyContext) -> list[Pair]:
    """The data set before any boosting: pictures of the user's folder, or crops of the shipped photos."""
    seed, count = context.settings.seed, QUICK if context.settings.quick else FULL
    if context.settings.images is None:
        paths, pictures = context.files, crops(context.files, len(CORNERS), context.side)
    else:
        named = {path.name: path for path in choose(context.settings.images, count, seed)}  # captions go by name
        paths = list(named.values())
        pictures = read(paths, context.side, [])
    own = context.best_captions([context.score], pictures, paths)
    captions = [own[picture.name][0] for picture in pictures]
    draw = random.Random(f"filter {seed}")  # noqa: S311 (a draw of pictures, not a secret)
    wrong = set(draw.sample(range(len(pictures)), max(1, round(MISMATCHED * len(pictures)))))
    found = []
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        others = sorted({*captions} - {caption}) or [other for other in candidates() if other != caption]
        found.append(Pair(picture, draw.choice(others) if place in wrong else caption, place in wrong))
    return found


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pairs × ways of boosting those that are mismatched."""
    judge, given = detector(context, context.score), pairs(context)
    known = attackers(context, judge)
    found: list[pd.DataFrame] = []
    by = {FAR: NOTHING, JUST: NOTHING, KNOWING: TOO if TOO in known else ALL, MINIMISING: ITSELF}
    for way in context.with_progress((NOT, *by)):
        enough = float(found[0].score[~found[0].mismatched].quantile(ENOUGH)) if way in (JUST, KNOWING) else None
        current = given if way == NOT else boosted(context, given, enough, known[by[way]])
        found.append(filtered(context, judge, current).assign(way=way, detector=judge.name))
    return pd.concat(found, ignore_index=True)


def boosted(context: StudyContext, given: list[Pair], target: float | None, attacker: Attacker) -> list[Pair]:
    """The pairs, with the pictures of mismatched ones boosted to `target`, or as far as possible if it is None."""
    attack = context.default_attack().replace(
        steps=min(context.settings.steps, STEPS), budgets=UNNOTICED, mask="visible", target=target, views=attacker.views
    )
    pictures, captions = zip(*((pair.picture, [pair.caption]) for pair in given if pair.mismatched), strict=True)
    fooled = iter(context.fool(attack, pictures, captions, attacker.score))
    return [replace(pair, picture=next(fooled)) if pair.mismatched else pair for pair in given]


def filtered(context: StudyContext, judge: Detector, current: list[Pair]) -> pd.DataFrame:
    """Each pair's score and verdict by a scan, whether it passes the filter, and whether `FILTERS` keep it."""
    digests = [(pair.picture.digest, pair.caption) for pair in current]
    name = Cache.key("filter", describe(Mapper(context.score, judge)), digests)
    source = context.cache.path(name, ".parquet")
    files.output_folder(source.parent)
    found = pd.DataFrame(
        [(each.picture.name, each.picture.photo, each.caption, each.mismatched) for each in current],
        columns=["picture", "photo", "caption", "mismatched"],
    )
    keys = [f"{place:06d}" for place in range(len(current))]
    content = {"key": keys, "image": [_png(pair.picture) for pair in current], "caption": list(found.caption)}
    with files.replacing(source) as partial:
        parquet.write_table(pa.table(content), partial, row_group_size=GROUP)
    told = {}
    for column, seed in (("kept", None), ("kept_seed", DETECTOR_SEEDS[0])):
        scanned = name if seed is None else f"{name}-{seed}"
        out, kept = context.cache.path(scanned, ""), context.cache.path(scanned, ".txt")
        folder = scan([source], out, model=context.score, detector=judge, seed=seed, settings=Settings())
        rows = pa.Table.from_batches([batch for *_, batch in folder.rows(["key", "score", "tampered"])]).to_pandas()
        cut = float(np.quantile(rows.score, 1 - TOP))
        export(folder, kept, cut)
        told[column] = pd.Series(keys).isin(kept.read_text(encoding="utf-8").split())
        if seed is None:
            told |= {"score": rows.score.astype(float), "passes": rows.score >= cut}
            # A picture without colour is undecidable, and so not called tampered.
            told["tampered"] = rows.tampered.astype("boolean").fillna(False).astype(bool)
    pictures, own = [pair.picture for pair in current], [(pair.caption,) for pair in current]
    hardened = [context.scores(pictures, own, each)[:, 0] for each in hardened_scores(context.score).values()]
    if hardened:
        lowest = np.min([told["score"], *hardened], axis=0)
        told["kept_lowest"] = (lowest >= np.quantile(lowest, 1 - TOP)) & ~told["tampered"]
    return found.assign(**told)


def _png(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    picture.image.save(buffer, format="PNG")
    return buffer.getvalue()


def report(table: pd.DataFrame) -> StudyReport:
    """Which pairs pass, without and with the detector, and how many clean pairs are lost."""
    summary, findings = [], []
    bars: dict[str, Estimate] = {}
    filters = {column: words for column, words in FILTERS.items() if column in table}
    for way, part in groups(table, "way").items():
        bad, clean = part[part.mismatched], part[~part.mismatched]
        before, after = share(bad.passes, bad.photo), {c: share(bad[c], bad.photo) for c in filters}
        bars |= {way: before, f"{way}, {FILTERS['kept']}": after["kept"]}
        passing = clean[clean.passes]
        held = {column: percent(bad[column].sum() / max(part[column].sum(), 1), ".1f") for column in ("passes", "kept")}
        row = {"boosted": way, "pairs": len(part), "mismatched": len(bad)}
        row |= {"their score": f"{mean(bad.score, bad.photo):.3f}", "of these get in": f"{before:.1%}"}
        row |= {words: f"{after[column]:.1%}" for column, words in filters.items()}
        row |= {"called tampered": f"{share(bad.tampered, bad.photo):.1%}"}
        row |= {"share of the list": held["passes"], "of the list with the detector": held["kept"]}
        lost = {f"of these lost {w}": f"{share(~passing[c], passing.photo):.1%}" for c, w in filters.items()}
        summary.append(row | {"clean pairs that get in": len(passing)} | lost)
        others = [f"{bad[c].sum()} {words}" for c, words in filters.items() if c != "kept"]
        findings.append(
            f"Boosted {way}, {bad.passes.sum()} of {len(bad)} mismatched pairs get into the top {percent(TOP)} of "
            f"{len(part)}, and {bad.kept.sum()} with the detector: {held['passes']} of the list, then {held['kept']}. "
            f"It costs {(~passing.kept).sum()} of {len(passing)} clean pairs there. Other filters let in "
            f"{', and '.join(others)}."
        )
    clean = table[(table.way == NOT) & ~table.mismatched]
    alarms = share(clean.tampered, clean.photo)
    findings.append(f"The detector {table.detector.iloc[0]!r} calls {alarms:.1%} of all clean pairs tampered.")
    plot = plots.bars(bars, f"share of the mismatched pairs among the top {percent(TOP)}")
    return StudyReport(pd.DataFrame(summary), {"who-gets-in": plot}, findings)


study = Study(__name__, __doc__, table, report)
