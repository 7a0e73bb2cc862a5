"""The report of `foclip detect`: verdicts, the most suspicious first, each picture beside the probe that told most."""

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from foclip import __version__, files
from foclip.data import images
from foclip.detection import Detection, Detector, transformation
from foclip.detection.detector import FIELDS
from foclip.errors import ImageError
from foclip.models.scorer import EmbeddingScorer
from foclip.models.scores.clip import CLIPScore
from foclip.outcome import Outcome, Progress, no_progress
from foclip.reports.heat import drawn, heat_map
from foclip.reports.html import figure, picture, render

#: Files of the report in its folder; `foclip fool` may have a report.html of its own there.
PAGE, TABLE = "verdicts.html", "verdicts.csv"
#: Pictures on the page.
SHOWN = 200
#: Prompts of a picture on the page.
PROMPTS = 3
#: p-values from which their histogram says something.
ENOUGH = 20
#: Columns of the table; an input that failed has an image, the verdict "failed" and an error.
COLUMNS = (*FIELDS, "error")
#: What makes a cell a formula where a spreadsheet opens the table.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(
    out: Path,
    found: Outcome[Detection],
    scorer: EmbeddingScorer,
    detector: Detector,
    fpr: float | None = None,
    progress: Progress = no_progress,
) -> None:
    """Write `verdicts.csv`, then `verdicts.html`, into a folder.

    Args:
        out: The folder.
        found: What `foclip.core.detecting` found in files.
        scorer: The score of the pictures.
        detector: The detector that judged them.
        fpr: Bound on false alarms instead of the detector's own, as it was given to `detect`.
        progress: Progress, in pictures drawn.
    """
    files.write_text(out / TABLE, table(found))
    shown = suspicious_first(found.results)[:SHOWN]
    report, items = progress("drawing", len(shown)), []
    for number, detection in enumerate(shown, start=1):
        items.append(_item(detection, scorer, detector.hardened))
        report(number)
    decided_by = sorted({detection.decided_by for detection in found})
    html = render(
        "detected.html",
        items=items,
        counts=Counter(detection.verdict for detection in found),
        total=len(found),
        failures=found.failures,
        model=scorer.model,
        score=scorer.info.name,
        detector=detector,
        decided_by=decided_by,
        bound=detector.fpr if fpr is None else fpr,
        rule=detector.rule.statistic if decided_by == ["rule"] and fpr is None else None,
        p_values=_p_values(found.results),
        table=TABLE,
        version=__version__,
    )
    files.write_text(out / PAGE, html)


def suspicious_first(detections: Sequence[Detection]) -> list[Detection]:
    """Tampered pictures first, each kind by p-value, then by what the probe loses; those without a p-value last."""

    def order(detection: Detection) -> tuple[bool, float, float, float]:
        p = 2.0 if detection.p_value is None else detection.p_value
        return not detection.tampered, p, -(detection.drop or 0.0), -(detection.drift or 0.0)

    return sorted(detections, key=order)


def table(found: Outcome[Detection]) -> str:
    """All verdicts as CSV in the order of the inputs, failed ones at the end; prompts as a JSON list."""
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    rows.writeheader()
    for detection in found:
        probes, prompts = "; ".join(detection.probes), json.dumps(detection.prompts, ensure_ascii=False)
        rows.writerow(vars(detection) | {"image": _plain(detection.image), "probes": probes, "prompts": prompts})
    for failure in found.failures:
        rows.writerow({"image": _plain(failure.source), "verdict": "failed", "error": _plain(failure.reason)})
    return text.getvalue()


def _plain(name: str) -> str:
    """A file's name that no spreadsheet takes for a formula: the same file, named from the current folder."""
    return f"./{name}" if name.startswith(FORMULA) else name


def _item(detection: Detection, scorer: EmbeddingScorer, hardened: Collection[str]) -> dict[str, Any]:
    return {
        "detection": detection,
        "name": Path(detection.image).name,
        "shown": _shown(detection, scorer, hardened),
        "through": detection.probe in hardened,
        "prompts": detection.prompts[:PROMPTS],
        "more": len(detection.prompts[PROMPTS:]),
    }


def _shown(detection: Detection, scorer: EmbeddingScorer, hardened: Collection[str]) -> list[tuple[str, str]]:
    """The picture, its probe and its map, with their captions; nothing if the file has gone since."""
    try:
        found = images.read(detection.image)
    except ImageError:
        return []
    seen = scorer.preprocess.image(found)
    assert isinstance(seen, Tensor)  # a scorer with one encoder has one input
    shown, small = [("picture", picture(found))], images.to_image(seen)
    if detection.probe and detection.probe not in hardened:
        probe = transformation(detection.probe, detection.seed)
        shown.append((f"its probe, {detection.probe}", picture(probe.exact(small))))
    prompts, by = tuple(detection.prompts), scorer
    if not prompts and detection.zero_shot_caption:  # told by its cosine, whatever the score
        prompts, by = (detection.zero_shot_caption,), CLIPScore(scorer.encoder)
    if detection.tampered and prompts:
        part = heat_map(by, small, prompts)
        caption = f"map: what JPEG takes away adds {float(part.sum()):+.3f} to the score"
        shown.append((caption, picture(drawn(part, small))))
    return shown


def _p_values(detections: Sequence[Detection]) -> Any:
    """Histogram of the p-values; None for few."""
    values = [detection.p_value for detection in detections if detection.p_value is not None]
    if len(values) < ENOUGH:
        return None
    plot = Figure(figsize=(4.6, 2.2))
    axes = plot.subplots()
    axes.hist(values, bins=20, range=(0, 1), color="#555555")
    axes.axhline(len(values) / 20, color="#b3261e", linewidth=1, linestyle="--")
    axes.set_xlabel("p-value")
    axes.set_ylabel("pictures")
    axes.spines[["top", "right"]].set_visible(False)
    return figure(plot)
