"""Detectors: is ours ahead of other people's, on the same pictures and at the same rate of false alarms?

Seven detectors of other people (`foclip.studies.harness.baselines`) and the one of this encoder look at the same
pictures: clean ones, and pictures that were fooled by several attacks, as they are, saved again, or cropped. Their
attackers know nothing of detectors, or one detector, whose number they keep below its threshold while they raise the
score. The threshold of each of the others is set on the study's own clean pictures. Ours has the thresholds of its
file, which hold for clean pictures of more kinds. An attacker's measure is the *undetected rise*: how far the score
rose where no alarm is raised, and 0 elsewhere.

The recommended policy is measured as one: a picture counts only if no alarm is raised, and with the lower of its scores
on the encoder and on the hardened encoder, which is given the picture blurred (`foclip.models.blurred`). Those who know
the policy raise the lower score and evade the detector. Beside them stand those who raise the lower score where there
is no detector, which tells what each half is worth, and those who raise the lower score on two encoders, with that
baseline as the detector.
"""

import importlib.util
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from foclip.attacks import CMAES, MIFGSM, AttackPlan, AutoPGD
from foclip.data.prompts import ARTWORKS, Prompts
from foclip.detection import FullDetector, hardened_of, hardened_scores
from foclip.detection.adaptive import DetectorAwareScore
from foclip.detection.probes import over_hardened
from foclip.detection.scenarios import AFTERWARDS, CROPPED, LEAST_RISE
from foclip.models.blurred import blurred
from foclip.models.scorer import EmbeddingScorer, Scorer
from foclip.models.scores import MinEnsemble
from foclip.objective import FeatureAlignment
from foclip.perceptual.budget import Budget
from foclip.studies.harness import BUDGET, Rows, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.attacks import best_crop, perturbed, universal_change
from foclip.studies.harness.baselines import Baseline, BaselineAwareScore, known_baselines, suspicions
from foclip.studies.harness.context import PromptsOf
from foclip.studies.harness.detectors import detector
from foclip.studies.harness.pictures import Picture, choose, read
from foclip.studies.harness.statistics import Floats, groups, mean, share
from foclip.studies.harness.verdicts import (
    AS_IT_IS,
    CLEAN,
    LOWER,
    NOTHING,
    ORIGINAL,
    OURS,
    PAIR,
    POLICY,
    RATES,
    SAYS,
    SEEN_BY,
    Verdicts,
    false_alarms,
    kept_by_budget,
)

#: Photos that are fooled, and that stay clean, of a folder (quick run, full run); of fewer photos a half is fooled.
VICTIMS, OTHERS = (4, 24), (60, 176)
#: How many of them those attack who know a detector: they need many passes for every step.
FEW = 8
#: Budgets in dB of attackers who know nothing, for the own caption (quick run, full run) and for other prompts.
BUDGETS, TITLES_AT = ((BUDGET, 45.0), (BUDGET, 40.0, 45.0, 50.0)), (BUDGET, 45.0)
#: Those of attackers who know a detector of others, and of those who know ours or the policy.
THEIRS_AT, OURS_AT = (45.0,), (BUDGET, 45.0)
#: Steps of an attack at most; queries of CMA-ES for each of them, and its frequencies per axis.
STEPS, QUERIES, BLOCK = 60, 5, 8
#: What became of the file, besides nothing.
STATES = ("JPEG 85", CROPPED)
#: Attacks of another kind (`foclip.studies.harness.attacks`).
UNIVERSAL, CROP = "universal", "best crop"
#: Prompts that pictures are fooled for.
OWN, TITLES = "own caption", "ten artworks"


class Bench(NamedTuple):
    """The pictures and detectors of this study."""

    context: StudyContext
    judge: FullDetector  # ours
    known: Mapping[str, Baseline]  # other people's
    second: EmbeddingScorer | None  # a second encoder
    lower: EmbeddingScorer  # over the hardened encoder, blurred; in the policy the lower of the score and it counts
    victims: Sequence[Picture]  # the originals of all fooled pictures
    clean: Sequence[Picture]
    captions: Mapping[str, Prompts]  # of all of these, by their names


class Condition(NamedTuple):
    """How pictures are fooled."""

    attack: str
    aim: str
    budget: float
    knows: str
    plan: AttackPlan | None  # None for the two that are no plan
    score: Scorer | None = None  # what is raised; None for the score itself


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × states × attacks × what attackers know; clean pictures and originals."""
    bench = _bench(context)
    labels = {"attack": CLEAN, "aim": OWN, "budget": np.nan, "knows": NOTHING}
    clean = _rows(bench, bench.clean, bench.captions, labels)
    rows = [*clean, *_rows(bench, bench.victims, bench.captions, labels | {"attack": ORIGINAL})]
    for condition in context.with_progress(_conditions(bench, pd.DataFrame(clean))):
        attack, aim, budget, knows, plan, score = condition
        prompts, knowing = ARTWORKS if aim == TITLES else bench.captions, knows != NOTHING
        victims = bench.victims[: FEW if knowing else None]
        if plan:
            fooled = context.fool(plan, victims, prompts, score)
        elif attack == CROP:
            fooled = [best_crop(context, picture, bench.captions[picture.name]) for picture in victims]
        else:
            change = universal_change(context, bench.clean, ARTWORKS, budget, min(context.settings.steps, STEPS))
            fooled = [perturbed(context, picture, change, budget) for picture in victims]
        labels = {"attack": attack, "aim": aim, "budget": budget, "knows": knows}
        here = bench._replace(lower=bench.second) if knows == PAIR and bench.second else bench
        rows += _rows(here, fooled, prompts, labels, () if knowing else STATES)
    return pd.DataFrame(rows)


def _bench(context: StudyContext) -> Bench:
    score, settings = context.score, context.settings
    judge, second = detector(context, score), context.further[0] if context.further else None
    if settings.images is None:
        paths, victims = context.files, [picture for picture in context.pictures if picture.has_colour][::2]
        apart = {picture.photo for picture in victims}
        clean = [crop for crop in context.examples if crop.photo not in apart and crop.has_colour]
    else:
        most = VICTIMS[not settings.quick]
        paths = choose(settings.images, most + OTHERS[not settings.quick], settings.seed)
        found = [picture for picture in read(paths, context.side, []) if picture.has_colour]
        random.Random(settings.seed).shuffle(found)  # noqa: S311 (no secret)
        count = min(most, len(found) // 2)
        victims, clean = found[:count], found[count:]
    captions = context.best_captions([score], [*victims, *clean], paths)
    known = known_baselines(judge.rule.statistic, second)
    strongest = next(iter((*context.hardened, *hardened_scores(score).values(), score)))
    lower = over_hardened(score, blurred(strongest.encoder))
    return Bench(context, judge, known, second, lower, victims, clean, captions)


def _conditions(bench: Bench, clean: pd.DataFrame) -> list[Condition]:
    context, quick = bench.context, bench.context.settings.quick
    steps = min(context.settings.steps, STEPS)
    foclip = context.default_attack().replace(steps=steps)
    within = {budget: foclip.replace(budgets=Budget("psnr", budget)) for budget in BUDGETS[not quick]}
    further = {
        "MI-FGSM": context.attack(MIFGSM, objective=FeatureAlignment(), steps=min(steps, 10)),
        "Auto-PGD": context.attack(AutoPGD, steps=steps),
    }
    if importlib.util.find_spec("cma"):
        black_box = context.attack(CMAES, objective=FeatureAlignment(), steps=QUERIES * steps, block=BLOCK)
        further["CMA-ES"] = black_box
    known = _knowing(bench, clean)
    return [
        *(Condition("FoCLIP", OWN, budget, NOTHING, plan) for budget, plan in within.items()),
        *(Condition("FoCLIP", TITLES, budget, NOTHING, within[budget]) for budget in TITLES_AT),
        *(Condition(name, OWN, BUDGET, NOTHING, plan) for name, plan in further.items()),
        Condition(UNIVERSAL, TITLES, BUDGET, NOTHING, None),
        Condition(CROP, OWN, np.inf, NOTHING, None),
        *(
            Condition("FoCLIP", OWN, budget, name, within[budget], aim)
            for name, aim in known.items()
            for budget in (THEIRS_AT if name in bench.known else OURS_AT)
        ),
    ]


def _knowing(bench: Bench, clean: pd.DataFrame) -> dict[str, Scorer]:
    """What attackers raise who know one detector, by its name."""
    score, verdicts = bench.context.score, Verdicts(clean)
    found: dict[str, Scorer] = {}
    for name, baseline in bench.known.items():
        limit, scatter = verdicts.threshold(name, RATES[-1]), max(verdicts.scatter(name), 1e-9)
        found[name] = BaselineAwareScore(score, name, baseline, limit, scatter, bench.second)
    judge, hardened = bench.judge, hardened_of(bench.judge, score)
    judge = replace(judge, fpr=max(RATES[-1], 1 / (1 + judge.combined.distinct)))
    found[OURS] = DetectorAwareScore(score, judge, hardened)
    found[POLICY] = DetectorAwareScore(score, judge, hardened, lower=bench.lower)
    found[LOWER] = MinEnsemble([score, bench.lower])
    return found | ({PAIR: MinEnsemble([score, bench.second])} if bench.second else {})


def _rows(
    bench: Bench,
    pictures: Sequence[Picture],
    prompts: PromptsOf,
    labels: dict[str, object],
    states: Sequence[str] = STATES,
) -> Rows:
    """Rows of pictures as they are and in other states: what all detectors say, and how far the scores rose."""
    context, originals = bench.context, {picture.name: picture for picture in (*bench.victims, *bench.clean)}
    before = _scores(bench, [originals[picture.name] for picture in pictures], prompts)
    named = [(AS_IT_IS, picture) for picture in pictures]
    named += [(s, replace(each, image=AFTERWARDS[s](each.image))) for s in states for each in pictures]
    files = [picture for _, picture in named]
    # Of every picture the score, the lower of that and the second one, and by how much both rose.
    scores = _scores(bench, files, prompts)
    rises = scores - np.tile(before, (1 + len(states), 1))
    seen = context.sensitivities(files, prompts, probes=bench.judge.probes)
    said = suspicions(context, bench.known, bench.second, files, prompts)
    rows = []
    for (state, picture), found, score, rise, others in zip(named, seen, scores, rises, said, strict=True):
        ranked = bench.judge.combined.ranked(found)
        row = {**labels, "file": state, "picture": picture.name, "photo": picture.photo}
        row |= {"score": score[0], "rise": rise[0], "rise of the lower": rise[1]}
        row |= {"psnr": picture.figures.get("psnr", np.nan), "least": LEAST_RISE * found.floor}
        row |= {"detector": bench.judge.name, "p": ranked.p_value, "promised": 1 / (1 + bench.judge.combined.distinct)}
        rows.append(row | {SAYS + name: value for name, value in {**others, OURS: ranked.value}.items()})
    return rows


def _scores(bench: Bench, pictures: Sequence[Picture], prompts: PromptsOf) -> Floats:
    """(P, 2): the scores of P pictures, and the lower of these and those over the blurred hardened encoder."""
    both = (bench.context.score, bench.lower)
    score, second = (bench.context.scores(pictures, prompts, each).mean(axis=1) for each in both)
    return np.stack([score, np.minimum(score, second)], axis=1)


def report(table: pd.DataFrame) -> StudyReport:
    """What each detector catches, its false alarms, where ours is not ahead, and what those keep who know one."""
    verdicts = Verdicts(table)
    fooled = table[~table.attack.isin([CLEAN, ORIGINAL])]
    parts = groups(fooled, "attack", "aim", "budget", "knows", "file")
    unknowing = {key: part for key, part in parts.items() if key[3] == NOTHING}
    knowing = {(key[2], key[3]): part for key, part in parts.items() if key[3] != NOTHING and key[4] == AS_IT_IS}
    summary = []
    for (attack, aim, budget, knows, file), part in parts.items():
        for name in (
            verdicts.names if knows in {NOTHING, LOWER, POLICY} else dict.fromkeys([OURS, SEEN_BY.get(knows, knows)])
        ):
            row = {"attack": attack, "for": aim, "budget / dB": f"{budget:g}", "attackers know": knows, "file": file}
            row |= {"pictures": len(part), "rise": f"{mean(part.rise, part.photo):+.3f}"}
            row |= {"highest rise": f"{part.rise.max():+.3f}"}
            row |= {"rise of the lower": f"{mean(part['rise of the lower'], part.photo):+.3f}"}
            row |= {"fooled": f"{share(part.rise >= part.least, part.photo):.0%}"}
            row |= {"attackers know it": "yes" if name == SEEN_BY.get(knows, knows) else "no"}
            row |= {"detector": name, "AUC": f"{verdicts.area(part, name):.3f}"}
            row |= {f"caught at {rate:.0%}": f"{verdicts.caught(part, name, rate):.0%}" for rate in RATES}
            row |= {"undetected rise": f"{verdicts.undetected(part, name):+.3f}"}
            summary.append(row | {"of the lower score": f"{verdicts.undetected(part, name, 'rise of the lower'):+.3f}"})
    clean = groups(table[table.attack.isin([CLEAN, ORIGINAL])], "attack", "file")
    for ((attack, file), part), name in itertools.product(clean.items(), verdicts.names):
        row = {"attack": attack, "for": OWN, "file": file, "pictures": len(part), "detector": name}
        alarms = {rate: share(verdicts.alarms(part, name, rate), part.photo) for rate in RATES}
        summary.append(row | {f"false alarms at {rate:.0%}": f"{found:.1%}" for rate, found in alarms.items()})
    main = unknowing["FoCLIP", OWN, max(budget for budget, _ in knowing), NOTHING, AS_IT_IS]
    strongest = {(budget, name): verdicts.kept(part, name) for (budget, name), part in knowing.items()}
    plot = Figure(figsize=(11, 3.6))
    left, right = plot.subplots(1, 2)
    faint = float(main.budget.iloc[0])
    plots.draw_bars(left, {name: verdicts.caught(main, name) for name in verdicts.names}, f"caught at {faint:g} dB")
    plots.draw_bars(
        right,
        {f"{name}, {budget:g} dB": left for (budget, name), left in strongest.items()},
        "rise kept by who knows it",
    )
    plot.tight_layout()
    findings = [
        false_alarms(table, verdicts),
        *_ahead(unknowing, verdicts),
        *(
            f"The best of some crops of an original, which nobody changed, gains {mean(part.rise, part.photo):+.3f}."
            for (attack, *_, file), part in unknowing.items()
            if attack == CROP and file == AS_IT_IS
        ),
        *(kept_by_budget(budget, strongest) for budget in sorted({budget for budget, _ in strongest}, reverse=True)),
    ]
    return StudyReport(pd.DataFrame(summary).fillna("–"), {"caught-and-kept": plot}, findings)


def _ahead(parts: dict[tuple[str, str, float, str, str], pd.DataFrame], verdicts: Verdicts) -> list[str]:
    """What ours and the best of the others catch of attackers who know nothing; and where ours is not ahead."""
    sentences, behind, level = [], [], 0
    for (attack, aim, budget, _, file), part in parts.items():
        shares = {name: verdicts.caught(part, name) for name in verdicts.names}
        ours = shares.pop(OURS)
        if attack == CROP or np.isnan(ours.value):  # an alarm at a crop is a false one
            continue
        best = max(shares, key=lambda name: shares[name].value)
        where = f"{attack} for {aim} at {budget:g} dB, {file}"
        sentences.append(f"{where}: ours catches {ours:.0%}, the best of the others ({best}) {shares[best]:.0%}.")
        level += shares[best].value == ours.value
        if shares[best].value > ours.value:
            behind.append(f"{where} ({best})")
    said = f"Of {len(sentences)} columns, ours is level with the best of the others in {level} and behind in"
    return [*sentences, f"{said} {len(behind)}{': ' if behind else ''}{'; '.join(behind)}."]


study = Study(__name__, __doc__, table, report)
