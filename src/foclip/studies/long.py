"""Long runs: what do more steps gain, and are the pictures easier to detect?

The same pictures are fooled with ever more steps within the fidelity budget. Each number of steps is a separate run,
because the automatic step size falls towards the end of a run.
"""

import pandas as pd

from foclip.studies.harness import BUDGET, Study, StudyContext, StudyReport, plots
from foclip.studies.harness.detectors import METHODS, caught, detector, judged
from foclip.studies.harness.statistics import groups, mean, means, percent

QUICK, FULL = (10, 100, 1_000), (100, 1_000, 10_000, 50_000)


def table(context: StudyContext) -> pd.DataFrame:
    """Rows: pictures × lengths; 0 steps are the originals."""
    judge = detector(context, context.score)
    originals = context.pictures[: 4 if context.settings.quick else 1]
    rows = []
    for steps in context.with_progress([0, *(QUICK if context.settings.quick else FULL)]):
        attack = context.default_attack().replace(steps=steps)
        found = judged(context, judge, context.fool(attack, originals) if steps else originals, length=steps)
        rows += [row | {"detector": judge.name} for row in found]
    return pd.DataFrame(rows)


def report(table: pd.DataFrame) -> StudyReport:
    """Score, fidelity, drop and verdicts per length."""
    parts = groups(table, "length")
    summary = [
        {"steps": f"{steps:,}"}
        | means(part, "score", "lowest", "psnr", "ssim", "flip99", "drop")
        | caught(part, "caught by")
        for steps, part in parts.items()
    ]
    lengths = [steps for steps in parts if steps]
    scores, drops = ([mean(parts[n][column], parts[n].photo) for n in lengths] for column in ("score", "drop"))
    panels = {"mean CLIPScore": {"": (lengths, scores)}, "drop in gray": {"": (lengths, drops)}}
    plot = plots.lines("steps", panels, plots.WIDE, logarithmic=True)
    last, before = parts[lengths[-1]], parts[lengths[-2]]
    findings = [
        f"{lengths[-1]:,} steps score {last.score.mean() - before.score.mean():+.3f} against {lengths[-2]:,}, "
        f"within the same {BUDGET:g} dB.",
        f"The drop in gray goes from {percent(drops[0].value)} after {lengths[0]:,} steps to "
        f"{percent(drops[-1].value)} after {lengths[-1]:,}.",
        *(
            f"After {lengths[-1]:,} steps {words} catches {int(last[method].sum())} of {len(last)} pictures, and calls "
            f"{int(parts[0][method].sum())} of the {len(parts[0])} originals tampered."
            for method, words in METHODS.items()
        ),
        f"Judged by the detector {table.detector.iloc[0]!r}.",
    ]
    return StudyReport(pd.DataFrame(summary), {"score-and-drop-over-steps": plot}, findings)


study = Study(__name__, __doc__, table, report)
