"""`foclip harden`."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from foclip.cli import checks, console, progress
from foclip.cli.options import RUN, Device, Json, Model, Out, path

if TYPE_CHECKING:
    from foclip.hardening import Hardened

TRAINING = "Training"


def harden(
    images: Annotated[
        list[Path],
        typer.Option(
            help="Pictures to train on: a folder (searched through), tar or Parquet file; may be repeated.",
            metavar="PATH",
            parser=path,
        ),
    ],
    out: Out,
    model: Model = "mini",
    min_psnr: Annotated[float, typer.Option(help="Largest change it is hardened against, dB.")] = 38.0,
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights.")] = 1000,
    keep: Annotated[
        float,
        typer.Option(help="Least cosine with the original on clean held-out pictures; below it, nothing is written."),
    ] = 0.9,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            "--eval",
            help="Pictures to measure on; may be repeated. Default: some of --images are held out.",
            metavar="PATH",
            show_default=False,
            parser=path,
        ),
    ] = None,
    json: Json = False,
    least: Annotated[
        float,
        typer.Option(
            help="Least change: each picture's is drawn between this share of the largest and it.",
            rich_help_panel=TRAINING,
        ),
    ] = 0.5,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pictures per update, over all processes.", rich_help_panel=TRAINING)
    ] = 64,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Peak learning rate; default by size: 1e-3 (small towers) to 1e-5.",
            show_default=False,
            rich_help_panel=TRAINING,
        ),
    ] = None,
    ascent: Annotated[
        int, typer.Option(min=1, help="Gradient steps that perturb a picture.", rich_help_panel=TRAINING)
    ] = 1,
    aimed: Annotated[
        float,
        typer.Option(
            help="Share of the pictures pushed towards a text, not just away from their place.",
            rich_help_panel=TRAINING,
        ),
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of order, crops and random starts.", rich_help_panel=TRAINING)] = 0,
    attack_steps: Annotated[
        int,
        typer.Option(
            min=1,
            help="Steps of the attack on original and hardened encoder that the figures come from.",
            rich_help_panel=RUN,
        ),
    ] = 100,
    accumulate: Annotated[
        int, typer.Option(min=1, help="Cut each batch into so many parts, to save memory.", rich_help_panel=RUN)
    ] = 1,
    checkpoint_every: Annotated[
        float, typer.Option(min=0, help="Seconds between checkpoints.", rich_help_panel=RUN)
    ] = 120.0,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option(help="auto: whichever is measured faster at the start.", rich_help_panel=RUN),
    ] = "auto",
    checkpointing: Annotated[
        bool,
        typer.Option("--checkpointing", help="Recompute activations: less memory, more time.", rich_help_panel=RUN),
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Write float16 weights.", rich_help_panel=RUN)] = False,
    device: Device = "auto",
) -> None:
    """Harden an encoder: one whose scores are hard to raise, trained on pictures alone.

    Killed or interrupted, the same command goes on from its checkpoint. Under torchrun, several
    processes share the work. Exit code 1: some pictures could not be read and were left out.
    """
    options = dict(locals())
    checks.folders("images", images)
    checks.folders("eval", evaluation or [])
    checks.models(model)
    with progress.loading(model):
        from foclip.hardening import HardenSettings
        from foclip.hardening import harden as run

    settings = HardenSettings(**{setting.name: options[setting.name] for setting in fields(HardenSettings)})
    with progress.resumable(
        f"the checkpoint is in {out / '.unfinished'}, and the same command goes on from it"
    ) as shown:
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
        _print(made, model, min_psnr)
    if made.skipped:
        raise typer.Exit(1)


def _print(made: "Hardened", model: str, min_psnr: float) -> None:
    """Figures of the original and the hardened encoder, and what it came to."""
    table = console.Table("figure", model, "hardened")
    for name, text in (
        ("clean_cosine", f"cosine with {model}, clean"),
        ("perturbed_cosine", f"cosine with {model}, pushed away at {min_psnr:g} dB"),
        ("score", "CLIPScore of ten artworks, clean"),
        ("fooled", f"the same, fooled at {min_psnr:g} dB"),
        ("rise", "rise"),
    ):
        table.add(text, *(console.figure(getattr(each, name)) for each in (made.before, made.after)))
    table.show()
    lower = f", {1 - made.after.rise / made.before.rise:.0%} less" if made.before.rise > 0 else ""
    line = (
        f"FoCLIP raises {model}'s score by {made.before.rise:.2f} and the hardened encoder's by "
        f"{made.after.rise:.2f}{lower}"
    )
    console.stdout.print()
    console.line(f"{line}; load it as local-dir:{made.folder}")
