"""`foclip harden`."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import typer

from foclip.cli import console, options, progress
from foclip.cli.options import RUN, TRAINING, option, path

#: Figures of an encoder, and what the table calls them.
FIGURES = {
    "clean_cosine": "cosine with {model}, clean",
    "perturbed_cosine": "cosine with {model}, pushed away at {min_psnr:g} dB",
    "score": "CLIPScore of ten artworks, clean",
    "fooled": "the same, fooled at {min_psnr:g} dB",
    "rise": "rise",
}


def harden(
    images: Annotated[
        list[Path],
        option(
            ...,
            "Pictures to train on: a folder (searched through), tar or Parquet file; may be repeated.",
            metavar="PATH",
            parser=path,
        ),
    ],
    out: options.Out,
    model: options.Model = "mini",
    min_psnr: float = option(38.0, "Largest change it is hardened against, dB."),
    steps: int = option(1000, "Updates of the weights.", min=1),
    keep: float = option(
        0.9, "Least cosine with the original on clean held-out pictures; below it, nothing is written."
    ),
    evaluation: list[Path] | None = option(
        None,
        "Pictures to measure on; may be repeated. Default: some of --images are held out.",
        name="--eval",
        metavar="PATH",
        parser=path,
    ),
    json: options.Json = False,
    least: float = option(
        0.5, "Least change: each picture's is drawn between this share of the largest and it.", TRAINING
    ),
    batch_size: int = option(64, "Pictures per update, over all processes.", TRAINING, min=1),
    lr: float | None = option(None, "Peak learning rate; default by size: 1e-3 (small towers) to 1e-5.", TRAINING),
    ascent: int = option(1, "Gradient steps that perturb a picture.", TRAINING, min=1),
    aimed: float = option(
        0.5, "Share of the pictures pushed towards a text, not just away from their place.", TRAINING
    ),
    seed: int = option(0, "Seed of order, crops and random starts.", TRAINING),
    attack_steps: int = option(
        100, "Steps of the attack on original and hardened encoder that the figures come from.", RUN, min=1
    ),
    accumulate: int = option(1, "Cut each batch into so many parts, to save memory.", RUN, min=1),
    checkpoint_every: float = option(120.0, "Seconds between checkpoints.", RUN, min=0),
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "auto: whichever is measured faster at the start.", RUN
    ),
    checkpointing: bool = option(False, "Recompute activations: less memory, more time.", RUN, name="--checkpointing"),
    half: bool = option(False, "Write float16 weights.", RUN, name="--half"),
    device: options.Device = "auto",
) -> None:
    """Harden an encoder: one whose scores are hard to raise, trained on pictures alone.

    Killed or interrupted, the same command goes on from its checkpoint. Under torchrun, several
    processes share the work. Exit code 1: some pictures could not be read and were left out.
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
            progress=shown,
            log=console.say,
            attack_steps=attack_steps,
            checkpoint_seconds=checkpoint_every,
        )
    if made is None:  # another process of the run reports
        return
    if json:
        console.print_json({"folder": str(made.folder), **made.config})
    else:
        table = console.Table("figure", model, "hardened")
        for name, text in FIGURES.items():
            values = (getattr(each, name) for each in (made.before, made.after))
            table.add(text.format(model=model, min_psnr=min_psnr), *map(console.figure, values))
        table.show()
        before, after = made.before.rise, made.after.rise
        lower = f", {1 - after / before:.0%} less" if before > 0 else ""
        console.stdout.print()
        console.line(
            f"FoCLIP raises {model}'s score by {before:.2f} and the hardened encoder's by {after:.2f}{lower}; "
            f"load it as local-dir:{made.folder}"
        )
    if made.skipped:
        raise typer.Exit(1)
