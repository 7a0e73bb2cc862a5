"""`foclip calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from foclip.cli import checks, console, progress
from foclip.cli.options import (
    DATA,
    RUN,
    Captions,
    Device,
    HardenedNames,
    Json,
    Model,
    PromptSet,
    PromptTexts,
    ScoreName,
    path,
)
from foclip.errors import UsageError


def calibrate(
    clean: Annotated[
        list[Path],
        typer.Option("--clean", help="Folder of clean pictures, or a picture; may be repeated.", parser=path),
    ],
    out: Annotated[Path, typer.Option("--out", help="Detector file to write; the report goes beside it.", parser=path)],
    prompts: PromptSet = None,
    prompt: PromptTexts = None,
    captions: Captions = None,
    model: Model = "mini",
    score: ScoreName = "clipscore",
    fpr: Annotated[float, typer.Option(help="Bound on false alarms that the detector keeps.")] = 0.01,
    json: Json = False,
    background: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of further clean pictures, measured but not fooled: more of them allow a lower --fpr.",
            parser=path,
            rich_help_panel=DATA,
        ),
    ] = None,
    fooled: Annotated[
        int, typer.Option(min=4, help="Fooled pictures to make, of every scenario in turn.", rich_help_panel=RUN)
    ] = 240,
    steps: Annotated[int, typer.Option(min=1, help="Updates per fooled picture.", rich_help_panel=RUN)] = 60,
    hardened: HardenedNames = None,
    device: Device = "auto",
) -> None:
    """Calibrate a detector on clean pictures: fools some of them and bounds the false alarms."""
    texts = checks.prompts(prompts, prompt)
    checks.captions(captions)
    checks.fpr(fpr)
    checks.folders("clean", clean)
    checks.folders("background", background or [])
    checks.models(model, *(hardened or ()))
    checks.score(score)
    if out.suffix != ".json":
        raise UsageError(f"--out {out}: give a file name that ends in .json")
    page = out.with_suffix(".html")
    checks.out(out.parent, out.name, page.name)
    chosen = progress.load(model, score, device)
    from foclip.calibration import calibrate as make_detector
    from foclip.reports import calibration as report

    work = out.with_name(f"{out.stem}-fooled")
    with progress.resumable(f"fooled pictures are kept in {work}, and the same command goes on from there") as shown:
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
            hardened=hardened or (),
            name=out.stem,
            progress=shown,
        )
        found.detector.save(out)
        report.write(page, found)
    summary = report.summary(found)
    if json:
        console.print_json({"detector": str(out), "report": str(page), "methods": summary})
    else:
        table = console.Table("method", "AUC", "caught", "false alarms", "balanced accuracy")
        for row in summary:
            values = (row[key] for key in ("auc", "caught", "false_alarms", "balanced_accuracy"))
            table.add(row["method"], *map(console.figure, values))
        table.show()
        console.where(detector=out, report=page)
    console.finish(found.failures)
