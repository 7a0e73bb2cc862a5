"""What makes a defence: `foclip calibrate` a detector, `foclip harden` an encoder."""

import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from foclip.cli import console, options, progress
from foclip.cli.options import DATA, RUN, TRAINING, option, path
from foclip.errors import UsageError

if TYPE_CHECKING:
    from foclip.models.scorer import Scorer

#: Figures of an encoder, and what the table calls them.
FIGURES = {
    "clean_cosine": "cosine with {model}, clean",
    "perturbed_cosine": "cosine with {model}, pushed away at {min_psnr:g} dB",
    "score": "CLIPScore of ten artworks, clean",
    "fooled": "the same, fooled at {min_psnr:g} dB",
    "rise": "rise",
}


def calibrate(
    clean: list[Path] = option(..., "Folder of clean pictures, or a picture; may be repeated.", parser=path),
    out: Path = option(..., "Detector file to write; the report goes beside it.", parser=path),
    prompts: options.PromptSet = None,
    prompt: options.PromptTexts = None,
    captions: options.Captions = None,
    model: options.Model = "mini",
    score: options.ScoreName = "clipscore",
    fpr: float | None = option(
        None,
        "Bound on the share of false alarms. Default: 0.01, or the least that few pictures can promise. 0.01 takes 99 "
        "colour pictures, 0.05 takes 20; with --full 198 and 38.",
    ),
    full: bool = option(
        False, "Fool pictures through this encoder: takes hours, has the paper's rule too.", name="--full", metavar=""
    ),
    json: options.Json = False,
    background: list[Path] | None = option(
        None, "More clean pictures, which are not fooled: they allow a lower --fpr. May be repeated.", DATA, parser=path
    ),
    fooled: int | None = option(
        None,
        "Fooled pictures to make with --full, of each scenario (docs/threat-model.md). Default: 240.",
        RUN,
        min=4,
    ),
    steps: int | None = option(None, "Updates per fooled picture with --full. Default: 20.", RUN, min=1),
    hardened: list[str] | None = option(
        None,
        "Hardened version of the encoder to ask too; may be repeated. Default: none; with --full those of the model.",
        RUN,
        metavar="NAME",
    ),
    device: options.Device = "auto",
) -> None:
    """Calibrate a detector on clean pictures: it keeps to a bound on false alarms.

    Takes a minute: clean pictures are measured, and what is suspicious was learned through other encoders. --full,
    --fooled or --steps fools pictures through this encoder too, and learns from them.
    """
    texts = options.prompts(prompts, prompt)
    if out.suffix != ".json":
        raise UsageError(f"--out {out}: give a file name that ends in .json")
    page = out.with_suffix(".html")
    models, names = [model, *(hardened or ())], (out.name, page.name)
    options.check(
        models,
        score,
        captions,
        texts=texts,
        fpr=fpr,
        clean=clean,
        background=background,
        out=out.parent,
        written=names,
    )
    chosen = progress.load(model, score, device)
    asked: dict[str, Any] = {"captions": captions, "background": background or (), "fpr": fpr, "name": out.stem}
    if hardened:
        asked["hardened"] = hardened
    if full or fooled or steps:
        settings = {"fooled": fooled, "steps": steps}
        _calibrate_fully(
            clean, texts, chosen, out, asked | {key: value for key, value in settings.items() if value}, json
        )
        return
    from foclip.calibration import calibrate_on_clean
    from foclip.reports import reference as report

    before = time.process_time()
    with progress.bars() as shown:
        found = calibrate_on_clean(clean, texts, model=chosen, **asked, progress=shown, log=console.say)
    seconds = time.process_time() - before
    found.detector.save(out)
    report.write(page, found)
    rows = report.summary(found)
    if json:
        cost = {"passes_per_picture": found.passes, "processor_seconds": round(seconds, 1)}
        console.print_json({"detector": str(out), "report": str(page), "methods": rows, **cost})
    else:
        headings = ("clean pictures", "number", "false alarms", "without prompts")
        console.table(headings, report.table(found))
        console.line(
            f"at most {100 * found.detector.fpr:g} % false alarms; {found.passes} passes a picture, {seconds:.0f} s of "
            "processor time"
        )
        console.where(detector=out, report=page)
    console.finish(found.failures)


def _calibrate_fully(
    clean: list[Path], texts: list[str] | None, scorer: "Scorer", out: Path, settings: dict[str, Any], json: bool
) -> None:
    from foclip.calibration import calibrate as make_detector
    from foclip.reports import calibration as report

    page, work = out.with_suffix(".html"), out.with_name(f"{out.stem}-fooled")
    if settings["fpr"] is None:
        del settings["fpr"]
    with progress.resumable(f"fooled pictures are kept in {work}") as shown:
        found = make_detector(clean, texts, work, model=scorer, **settings, progress=shown)
        found.detector.save(out)
        report.write(page, found)
    summary = report.summary(found)
    if json:
        console.print_json({"detector": str(out), "report": str(page), "methods": summary})
    else:
        headings = ("method", "AUC", "caught", "false alarms", "balanced accuracy")
        keys = ("auc", "caught", "false_alarms", "balanced_accuracy")
        console.table(headings, ([row["method"], *(console.figure(row[key]) for key in keys)] for row in summary))
        console.where(detector=out, report=page)
    console.finish(found.failures)


def harden(
    images: Annotated[
        list[Path],
        option(..., "Pictures to train on: folder, tar or Parquet file; may be repeated.", metavar="PATH", parser=path),
    ],
    out: options.Out,
    model: options.Model = "mini",
    min_psnr: float = option(38.0, "Largest change that it is hardened against: lowest PSNR in dB."),
    steps: int = option(1000, "Updates of the weights.", min=1),
    keep: float = option(0.9, "Lowest mean cosine with the original; below it, nothing is written."),
    evaluation: list[Path] | None = option(
        None,
        "Pictures to measure on. Default: some of --images. May be repeated.",
        name="--eval",
        metavar="PATH",
        parser=path,
    ),
    json: options.Json = False,
    least: float = option(0.5, "Smallest change in training, as a share of the largest.", TRAINING),
    batch_size: int = option(64, "Pictures per update, over all processes.", TRAINING, min=1),
    lr: float | None = option(None, "Peak learning rate; default by size: 1e-3 (small towers) to 1e-5.", TRAINING),
    ascent: int = option(1, "Gradient steps that perturb each picture.", TRAINING, min=1),
    aimed: float = option(0.5, "Share of pictures pushed towards a text, not from their embedding.", TRAINING),
    seed: int = option(0, "Seed of order, crops and random starts.", TRAINING),
    attack_steps: int = option(100, "Steps of the attack that measures both encoders.", RUN, min=1),
    accumulate: int = option(1, "Split each batch into so many parts, to save memory.", RUN, min=1),
    checkpoint_every: float = option(120.0, "Seconds between checkpoints.", RUN, min=0),
    precision: Literal["auto", "float32", "bfloat16"] = option("auto", "auto: what is faster on this machine.", RUN),
    checkpointing: bool = option(False, "Recompute activations: less memory, more time.", RUN, name="--checkpointing"),
    half: bool = option(False, "Write float16 weights.", RUN, name="--half"),
    device: options.Device = "auto",
) -> None:
    """Harden an encoder, so that its scores are hard to raise. It is trained on pictures alone.

    If it is killed or interrupted, the same command goes on from its checkpoint. Under torchrun,
    several processes share the work. Exit code 1: some pictures could not be read and were left out.
    """
    given = dict(locals())
    options.check([model], images=images, eval=evaluation)
    with progress.loading(model):
        from foclip.hardening import HardenSettings
        from foclip.hardening import harden as run

    settings = HardenSettings(**{setting.name: given[setting.name] for setting in fields(HardenSettings)})
    with progress.resumable(f"the checkpoint is in {out / '.unfinished'}") as shown:
        made = run(
            model,
            images,
            out,
            settings,
            evaluation or [],
            device,
            attack_steps=attack_steps,
            checkpoint_seconds=checkpoint_every,
            progress=shown,
            log=console.say,
        )
    if made is None:  # another process of the run reports
        return
    if json:
        console.print_json({"folder": str(made.folder), **made.config})
    else:
        texts = {name: text.format(model=model, min_psnr=min_psnr) for name, text in FIGURES.items()}
        both = (made.before, made.after)
        rows = ([text, *(console.figure(getattr(each, name)) for each in both)] for name, text in texts.items())
        console.table(("figure", model, "hardened"), rows)
        before, after = made.before.rise, made.after.rise
        lower = f", {1 - after / before:.0%} less" if before > 0 else ""
        console.stdout.print()
        console.line(
            f"FoCLIP raises {model}'s score by {before:.2f} and the hardened encoder's by {after:.2f}{lower}; "
            f"load it as local-dir:{made.folder}"
        )
    if made.skipped:
        raise typer.Exit(1)
