"""`foclip detect`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foclip.cli import checks, console, progress
from foclip.cli.options import (
    Bound,
    Captions,
    DetectorFile,
    Device,
    HardenedNames,
    Images,
    Json,
    Method,
    Model,
    ProbeSeed,
    PromptSet,
    PromptTexts,
    ScoreName,
    path,
)

if TYPE_CHECKING:
    from foclip.detection import Detection, Detector
    from foclip.models.scorer import EmbeddingScorer
    from foclip.outcome import Outcome


def detect(
    images: Images,
    prompts: PromptSet = None,
    prompt: PromptTexts = None,
    captions: Captions = None,
    model: Model = "mini",
    score: ScoreName = "clipscore",
    detector: DetectorFile = None,
    fpr: Bound = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for a report: a page and a table.", metavar="DIR", show_default=False, parser=path
        ),
    ] = None,
    json: Json = False,
    method: Method = "combined",
    seed: ProbeSeed = None,
    hardened: HardenedNames = None,
    device: Device = "auto",
) -> None:
    """Detect fooled pictures, with the prompts of a score or without any."""
    texts = checks.prompts(prompts, prompt)
    checks.captions(captions)
    checks.fpr(fpr)
    checks.folders("detector", [detector] if detector else [])
    checks.models(model, *(hardened or ()))
    checks.score(score)
    checks.images(images, json)
    if out:
        checks.out(out, "run.json")
    loaded = progress.load(model, score, device)
    from foclip import api, files
    from foclip.detection.detector import Detector, shipped
    from foclip.detection.probes import require_embedding
    from foclip.reports import detected

    chosen = require_embedding(loaded)
    page, table = ((out or Path()) / name for name in (detected.PAGE, detected.TABLE))
    if out:
        files.output_files(page, table)
    judge = shipped(chosen.encoder) if detector is None else Detector.load(detector)
    with progress.bars() as shown:
        found = api.detect(
            images,
            texts,
            model=chosen,
            detector=judge,
            method=method,
            fpr=fpr,
            captions=captions,
            hardened=hardened or (),
            seed=seed,
            progress=shown,
        )
    console.list_results(found, json, _print)  # before anything is drawn: that may take a while, or fail
    if out:
        _report(out, found, chosen, judge, fpr)
        if not json:
            console.where(report=page, table=table)
    console.finish(found.failures)


def _report(
    out: Path, found: "Outcome[Detection]", score: "EmbeddingScorer", detector: "Detector", fpr: float | None
) -> None:
    """Write page and table, with what is needed to run it again."""
    from foclip.reports import detected
    from foclip.runs.folder import Run

    run = {
        "model": score.model,
        "score": score.info.name,
        "fingerprint": score.fingerprint,
        "device": str(score.device),
        "detector": detector.name,
        "fpr": detector.fpr if fpr is None else fpr,
        "failures": [vars(failure) for failure in found.failures],
    }
    Run(out).record(sys.argv[1:], run)
    with progress.bars() as shown:
        detected.write(out, found, score, detector, fpr, shown)


def _print(rows: "Sequence[Detection]") -> None:
    table = console.Table("picture", "verdict", "p", "probe", "drop", "drift", "score")
    style = {"tampered": "bold red", "undecidable": "yellow", "clean": ""}
    for row in rows:
        values = (console.figure(value) for value in (row.drop, row.drift, row.score))
        p_value, probe = console.figure(row.p_value, 4), row.probe or "–"
        table.add(row.image, row.verdict, p_value, probe, *values, style=style[row.verdict])
    table.show()
    if any(row.verdict == "undecidable" for row in rows):
        console.line(
            "undecidable: the picture is gray already, so there is no colour to lose, and nothing else is suspicious"
        )
