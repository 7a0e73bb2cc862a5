"""`foclip calibrate`."""

from pathlib import Path

from foclip.cli import console, options, progress
from foclip.cli.options import DATA, RUN, option, path
from foclip.errors import UsageError


def calibrate(
    clean: list[Path] = option(..., "Folder of clean pictures, or a picture; may be repeated.", parser=path),
    out: Path = option(..., "Detector file to write; the report goes beside it.", parser=path),
    prompts: options.PromptSet = None,
    prompt: options.PromptTexts = None,
    captions: options.Captions = None,
    model: options.Model = "mini",
    score: options.ScoreName = "clipscore",
    fpr: float = option(0.01, "Bound on false alarms that the detector keeps."),
    json: options.Json = False,
    background: list[Path] | None = option(
        None,
        "Folder of further clean pictures, measured but not fooled: more of them allow a lower --fpr.",
        DATA,
        parser=path,
    ),
    fooled: int = option(240, "Fooled pictures to make, of every scenario in turn.", RUN, min=4),
    steps: int = option(60, "Updates per fooled picture.", RUN, min=1),
    hardened: options.HardenedNames = None,
    device: options.Device = "auto",
) -> None:
    """Calibrate a detector on clean pictures: fools some of them and bounds the false alarms."""
    texts = options.prompts(prompts, prompt)
    if out.suffix != ".json":
        raise UsageError(f"--out {out}: give a file name that ends in .json")
    page = out.with_suffix(".html")
    models, names = [model, *(hardened or ())], (out.name, page.name)
    options.check(models, score, captions, fpr=fpr, clean=clean, background=background, out=out.parent, written=names)
    chosen = progress.load(model, score, device)
    from foclip.calibration import calibrate as make_detector
    from foclip.reports import calibration as report

    work = out.with_name(f"{out.stem}-fooled")
    with progress.resumable(f"fooled pictures are kept in {work}") as shown:
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
