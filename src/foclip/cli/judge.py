"""`foclip score`, `foclip detect` and `foclip calibrate`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foclip.cli import console
from foclip.cli.options import (
    Bound,
    Captions,
    DecideBy,
    DetectorFile,
    Device,
    Draw,
    HardenedScores,
    Images,
    Json,
    Model,
    PromptSet,
    PromptTexts,
    ScoreName,
    Twin,
    path,
    prompts_of,
)
from foclip.errors import UsageError

#: Characters of a prompt that a table shows.
SHOWN = 24

if TYPE_CHECKING:
    from foclip.core.scoring import Scored
    from foclip.detection import Detection, Detector
    from foclip.models.scores import EmbeddingScore
    from foclip.outcome import Outcome


def score(
    images: Images,
    model: Model = "mini",
    score: ScoreName = "clipscore",
    prompts: PromptSet = None,
    prompt: PromptTexts = None,
    captions: Captions = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Weight w of CLIPScore: 2.5 (Hessel et al., default), 100 (torchmetrics).", show_default=False
        ),
    ] = None,
    twin: Twin = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Score pictures: their score with each prompt, and its mean."""
    from foclip import api
    from foclip.models.scores import CLIPScore

    texts = prompts_of(prompts, prompt)
    if scale is not None and score != CLIPScore.name:
        raise UsageError(f"--scale: {score} has no weight")
    chosen = console.load(model, score, device)
    if scale is not None:
        chosen = CLIPScore(chosen.encoder, scale)
    with console.bars() as progress:
        found = api.score(images, texts, model=chosen, captions=captions, hardened=twin, progress=progress)
    console.show(found, json, _print_scores)


def _print_scores(rows: "Sequence[Scored]") -> None:
    twins = ("on the twin", "gap") if rows[0].gap is not None else ()
    table = console.table("picture", "score", *twins, "lowest prompt", "highest prompt")
    for row in rows:
        figures = [console.figure(value, 4) for value in (row.score, *((row.hardened_score, row.gap) if twins else ()))]
        ends = (min(row.scores), max(row.scores))
        named = [f"{console.figure(end, 4)} {_short(row.prompts[row.scores.index(end)])}" for end in ends]
        table.add_row(*(console.cell(text) for text in (row.image, *figures, *named)))
    console.stdout.print(table)


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= SHOWN else f"{prompt[: SHOWN - 1]}…"


def detect(
    images: Images,
    prompts: PromptSet = None,
    prompt: PromptTexts = None,
    captions: Captions = None,
    model: Model = "mini",
    detector: DetectorFile = None,
    by: DecideBy = "combined",
    fpr: Bound = None,
    draw: Draw = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for a report: a page and a table.", metavar="DIR", show_default=False, parser=path
        ),
    ] = None,
    score: ScoreName = "clipscore",
    twins: HardenedScores = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Detect fooled pictures, with the prompts of a score or without any."""
    from foclip import api
    from foclip.detection.detector import Detector, shipped

    texts = prompts_of(prompts, prompt)
    if out:
        from foclip import files
        from foclip.reports import detected

        written = [files.output_folder(out) / name for name in (detected.PAGE, detected.TABLE, "run.json")]
        files.output_files(*written)
    chosen = console.load(model, score, device)
    judge = shipped(chosen.encoder) if detector is None else Detector.load(detector)
    with console.bars() as progress:
        found = api.detect(
            images,
            texts,
            model=chosen,
            detector=judge,
            method=by,
            fpr=fpr,
            captions=captions,
            hardened=twins or (),
            seed=draw,
            progress=progress,
        )
    console.list_results(found, json, _print_verdicts)  # before anything is drawn: that may take a while, or fail
    if out:
        _report(out, found, chosen, judge, fpr)
        if not json:
            console.where(report=written[0], table=written[1])
    console.finish(found.failures)


def _report(
    out: Path, found: "Outcome[Detection]", score: "EmbeddingScore", detector: "Detector", fpr: float | None
) -> None:
    """Write `run.json`, table and page of verdicts."""
    from foclip.reports import detected
    from foclip.runs.folder import Run

    run = {
        "model": score.model,
        "score": score.name,
        "fingerprint": score.fingerprint,
        "device": str(score.device),
        "detector": detector.name,
        "fpr": detector.fpr if fpr is None else fpr,
        "failures": [vars(failure) for failure in found.failures],
    }
    Run(out).record(sys.argv[1:], run)
    with console.bars() as progress:
        detected.write(out, found, score, detector, fpr, progress)


def _print_verdicts(rows: "Sequence[Detection]") -> None:
    table = console.table("picture", "verdict", "p", "probe", "drop", "drift", "score")
    style = {"tampered": "bold red", "undecidable": "yellow", "clean": ""}
    for row in rows:
        values = (console.figure(value) for value in (row.drop, row.drift, row.score))
        table.add_row(
            console.cell(row.image),
            console.cell(row.verdict, style=style[row.verdict]),
            console.figure(row.p_value, 4),
            row.probe or "–",
            *values,
        )
    console.stdout.print(table)
    if any(row.verdict == "undecidable" for row in rows):
        console.stdout.print(
            "undecidable: the picture is gray already, so there is no colour to lose, and nothing else is suspicious"
        )


def calibrate(
    clean: Annotated[
        list[Path],
        typer.Option("--clean", help="Folder of clean pictures, or a picture; may be repeated.", parser=path),
    ],
    out: Annotated[Path, typer.Option("--out", help="Detector file to write; the report goes beside it.", parser=path)],
    background: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of further clean pictures, measured but not fooled: with more, a lower --fpr can be promised.",
            parser=path,
        ),
    ] = None,
    prompts: PromptSet = None,
    prompt: PromptTexts = None,
    captions: Captions = None,
    model: Model = "mini",
    fpr: Annotated[float, typer.Option(help="Bound on false alarms that the detector promises.")] = 0.01,
    fooled: Annotated[int, typer.Option(min=4, help="Fooled pictures to make, of every cheat in turn.")] = 240,
    steps: Annotated[int, typer.Option(min=1, help="Updates per fooled picture.")] = 60,
    twins: HardenedScores = None,
    score: ScoreName = "clipscore",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Calibrate a detector on clean pictures: fools some of them and bounds the false alarms."""
    from foclip import files
    from foclip.calibration import calibrate as make_detector
    from foclip.reports import calibration as report

    texts = prompts_of(prompts, prompt)
    if out.suffix != ".json":
        raise UsageError(f"--out {out}: give a file name that ends in .json")
    files.output_folder(out.parent)
    files.output_files(out, out.with_suffix(".html"))
    chosen = console.load(model, score, device)
    work = out.with_name(f"{out.stem}-fooled")
    with console.resumable(f"fooled pictures are kept in {work}, and the same command goes on from there") as progress:
        found = make_detector(
            clean,
            texts,
            work,
            model=chosen,
            steps=steps,
            fpr=fpr,
            captions=captions,
            fooled=fooled,
            background=background or (),
            hardened=twins or (),
            name=out.stem,
            progress=progress,
        )
        found.detector.save(out)
        page = out.with_suffix(".html")
        report.write(page, found)
    summary = report.summary(found)
    if json:
        console.print_json({"detector": str(out), "report": str(page), "methods": summary})
    else:
        table = console.table("method", "AUC", "caught", "false alarms", "balanced accuracy")
        for row in summary:
            values = (row[key] for key in ("auc", "caught", "false_alarms", "balanced_accuracy"))
            table.add_row(row["method"], *(console.figure(value) for value in values))
        console.stdout.print(table)
        console.where(detector=out, report=page)
    console.finish(found.failures)
