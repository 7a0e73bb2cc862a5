"""`foclip harden`."""

import json as json_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from foclip.errors import UsageError

if TYPE_CHECKING:
    from foclip.harden import Hardened

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)

#: Spellings of `--precision`.
PRECISIONS = ("auto", "float32", "bfloat16")


def harden(
    images: Annotated[
        list[Path],
        typer.Option(
            help="Pictures to train on: a folder (searched through), tar or Parquet file; may be repeated.",
            metavar="PATH",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; open_clip loads it.", metavar="DIR")],
    model: Annotated[
        str,
        typer.Option(help="Encoder: mini, ARCHITECTURE/TAG, hf-hub:…, local-dir:… or a checkpoint.", metavar="NAME"),
    ] = "mini",
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
        ),
    ] = None,
    attack_steps: Annotated[
        int, typer.Option(min=1, help="Steps of the attack on original and twin that the figures come from.")
    ] = 100,
    checkpoint_every: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")] = 120.0,
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16, or auto: whichever is measured faster at the start.")
    ] = "auto",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Recompute activations: less memory, more time.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Write float16 weights.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of order, crops and random starts.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")
    ] = False,
) -> None:
    """Harden an encoder: a twin whose scores are hard to raise, trained on pictures alone.

    Killed or interrupted, the same command goes on from its checkpoint. Under torchrun, several
    processes share the work. Exit code 1: some pictures could not be read and were left out.
    """
    import torch

    from foclip.harden import Settings
    from foclip.harden import harden as run

    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}: write {', '.join(PRECISIONS)}")
    settings = Settings(
        min_psnr=min_psnr,
        least=least,
        steps=steps,
        batch_size=batch_size,
        accumulate=accumulate,
        lr=lr,
        ascent=ascent,
        aimed=aimed,
        seed=seed,
        precision=precision,  # type: ignore[arg-type]  # checked above
        checkpointing=checkpointing,
        keep=keep,
        half=half,
    )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    columns = (TextColumn("hardening"), BarColumn(), MofNCompleteColumn(), TextColumn("steps{task.fields[note]}"))
    try:
        with Progress(*columns, console=stderr) as bar:
            task = bar.add_task("", total=steps, note="")

            def on_progress(now: Any) -> None:
                minutes, seconds = divmod(round(now.seconds_left), 60)
                note = (
                    f", loss {now.loss:.4f}, cosine {now.clean:.3f} clean, {now.perturbed:.3f} perturbed, "
                    f"{minutes}:{seconds:02d} left"
                )
                bar.update(task, completed=now.step, note=note)
                if not stderr.is_terminal:  # a log file has no bar
                    _say(f"step {now.step} of {now.steps}{note}")

            made = run(
                model,
                images,
                out,
                settings,
                evaluation or [],
                device,
                _say,
                on_progress,
                attack_steps,
                checkpoint_every,
            )
    except KeyboardInterrupt:
        _say(f"interrupted; the same command goes on from the checkpoint in {out / '.unfinished'}")
        raise typer.Exit(130) from None
    if made is None:  # another process of the run reports
        return
    if json:
        typer.echo(json_.dumps({"folder": str(made.folder), **made.config}, indent=1, ensure_ascii=False))
    else:
        _print(made, model, min_psnr)
    if made.skipped:
        raise typer.Exit(1)


def _print(made: "Hardened", model: str, min_psnr: float) -> None:
    """Figures of original and twin, and what it came to."""
    table = Table("figure", model, "twin", box=None, pad_edge=False)
    for name, text in (
        ("clean_cosine", f"cosine with {model}, clean"),
        ("perturbed_cosine", f"cosine with {model}, pushed away at {min_psnr:g} dB"),
        ("score", "CLIPScore of ten artworks, clean"),
        ("fooled", f"the same, fooled at {min_psnr:g} dB"),
        ("rise", "rise"),
    ):
        table.add_row(Text(text), f"{getattr(made.before, name):.3f}", f"{getattr(made.after, name):.3f}")
    stdout.print(table)
    lower = f", {1 - made.after.rise / made.before.rise:.0%} less" if made.before.rise > 0 else ""
    line = f"\nFoCLIP raises {model}'s score by {made.before.rise:.2f} and the twin's by {made.after.rise:.2f}{lower}"
    stdout.print(Text(f"{line}; load it as local-dir:{made.folder}"), soft_wrap=True)


def _say(line: str) -> None:
    stderr.print(Text(line), soft_wrap=True)
