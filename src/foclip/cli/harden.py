"""`foclip harden`."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from foclip.cli import console
from foclip.cli.options import Device, Json, Model, Out, path

if TYPE_CHECKING:
    from foclip.hardening import Hardened


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
    least: Annotated[
        float, typer.Option(help="Least change: each picture's is drawn between this share of the largest and it.")
    ] = 0.5,
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights.")] = 1000,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per update, over all processes.")] = 64,
    accumulate: Annotated[int, typer.Option(min=1, help="Cut each batch into so many parts, to save memory.")] = 1,
    lr: Annotated[
        float | None,
        typer.Option(help="Peak learning rate; default by size: 1e-3 (small towers) to 1e-5.", show_default=False),
    ] = None,
    ascent: Annotated[int, typer.Option(min=1, help="Gradient steps that perturb a picture.")] = 1,
    aimed: Annotated[
        float, typer.Option(help="Share of the pictures pushed towards a text, not just away from their place.")
    ] = 0.5,
    keep: Annotated[
        float, typer.Option(help="Least cosine with the original on clean held-out pictures; below it, no twin.")
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
    attack_steps: Annotated[
        int, typer.Option(min=1, help="Steps of the attack on original and twin that the figures come from.")
    ] = 100,
    checkpoint_every: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")] = 120.0,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="auto: whichever is measured faster at the start.")
    ] = "auto",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Recompute activations: less memory, more time.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Write float16 weights.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of order, crops and random starts.")] = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Harden an encoder: a twin whose scores are hard to raise, trained on pictures alone.

    Killed or interrupted, the same command goes on from its checkpoint. Under torchrun, several
    processes share the work. Exit code 1: some pictures could not be read and were left out.
    """
    options = dict(locals())
    from foclip.hardening import HardenSettings
    from foclip.hardening import harden as run
    from foclip.outcome import print_progress

    settings = HardenSettings(**{setting.name: options[setting.name] for setting in fields(HardenSettings)})
    with console.resumable(
        f"the checkpoint is in {out / '.unfinished'}, and the same command goes on from it"
    ) as progress:
        made = run(
            model,
            images,
            out,
            settings,
            evaluation or [],
            device,
            progress=progress if console.stderr.is_terminal else print_progress,
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
    """Figures of original and twin, and what it came to."""
    table = console.table("figure", model, "twin")
    for name, text in (
        ("clean_cosine", f"cosine with {model}, clean"),
        ("perturbed_cosine", f"cosine with {model}, pushed away at {min_psnr:g} dB"),
        ("score", "CLIPScore of ten artworks, clean"),
        ("fooled", f"the same, fooled at {min_psnr:g} dB"),
        ("rise", "rise"),
    ):
        table.add_row(console.cell(text), *(console.figure(getattr(each, name)) for each in (made.before, made.after)))
    console.stdout.print(table)
    lower = f", {1 - made.after.rise / made.before.rise:.0%} less" if made.before.rise > 0 else ""
    line = f"FoCLIP raises {model}'s score by {made.before.rise:.2f} and the twin's by {made.after.rise:.2f}{lower}"
    console.stdout.print()
    console.stdout.print(console.cell(f"{line}; load it as local-dir:{made.folder}"), soft_wrap=True)
