"""The command line: parses, calls, prints. Heavy imports happen inside the commands.

Exit codes: 0 all done, 1 some inputs failed (listed; the rest is done), 2 wrong
call, 130 interrupted (what is finished is kept).
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from foclip.errors import FoclipError, PromptTruncationWarning, UsageError

if TYPE_CHECKING:
    from foclip.attacks import Attack, Trajectory
    from foclip.encoders import DualEncoder, Encoder
    from foclip.fooling import Failure, Result

app = typer.Typer(
    name="foclip",
    help="Can a CLIP-based score be trusted? Fool it, measure it, catch what fooled it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


class BalanceKind(str, Enum):
    variance = "variance"
    kl = "kl"


class GuardKind(str, Enum):
    range = "range"
    l2 = "l2"


class Init(str, Enum):
    image = "image"
    noise = "noise"


class AttackName(str, Enum):
    foclip = "foclip"
    pgd = "pgd"
    adam = "adam"
    mifgsm = "mifgsm"
    single_prompt = "single-prompt"
    cmaes = "cmaes"


Images = Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Picture files, or folders of them.")]
PromptSet = Annotated[
    str | None, typer.Option("--prompts", help="Prompt set: artworks, imagenet:N or a text file.", metavar="SET")
]
PromptTexts = Annotated[list[str] | None, typer.Option("--prompt", help="One prompt; may be repeated.", metavar="TEXT")]
Model = Annotated[
    str, typer.Option(help="Encoder: mini, ARCHITECTURE/TAG, hf-hub:…, local-dir:… or a checkpoint.", metavar="NAME")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]
Out = Annotated[Path, typer.Option("--out", help="Folder for results.", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]

#: Fidelity budget of `fool` for a start from the picture, dB.
DEFAULT_PSNR = 35.0


@app.command(no_args_is_help=True)
def fool(
    images: Images,
    out: Out,
    prompts: PromptSet = None,
    prompt: PromptTexts = None,
    model: Model = "mini",
    attack: Annotated[AttackName, typer.Option(help="Attack.")] = AttackName.foclip,
    steps: Annotated[
        int | None,
        typer.Option(min=0, help="Updates per picture; cmaes: queries. Default 1000; mifgsm 10, cmaes 10000."),
    ] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            help="Step size: auto, or a number taken literally (the papers: foclip 7, adam 0.1). Default auto. "
            "For foclip, adam and single-prompt."
        ),
    ] = None,
    momentum: Annotated[
        float | None, typer.Option(help="Momentum, in [0, 1). Default 0.5. For foclip and single-prompt.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight of the score balance. Default 1. For foclip.")] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the pixel guard. Default 1. For foclip.")] = None,
    balance: Annotated[
        BalanceKind | None, typer.Option(help="Kind of score balance. Default variance. For foclip.")
    ] = None,
    guard: Annotated[GuardKind | None, typer.Option(help="Kind of pixel guard. Default range. For foclip.")] = None,
    target: Annotated[float | None, typer.Option(help="Stop at this mean CLIPScore (w = 2.5).")] = None,
    min_psnr: Annotated[
        float | None,
        typer.Option(
            help="Fidelity budget in dB, never violated by the written file; 0 for none. "
            f"Default {DEFAULT_PSNR:g}; none for a start from noise.",
            show_default=False,
        ),
    ] = None,
    init: Annotated[
        Init | None,
        typer.Option(
            help="Start from the picture or from noise of its size. Default image; "
            "for adam without a budget noise, as its authors have it."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Pictures in flight; default by encoder.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise and of cmaes.")] = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Fool pictures: make them score high for every prompt while they look the same."""
    from foclip import prompts as prompt_sets

    texts = prompt_sets.resolve(prompts, prompt or [])
    if min_psnr is None and init is not Init.noise:
        min_psnr = DEFAULT_PSNR
    if min_psnr and init is None:
        init = Init.image
    settings = _attack(
        attack,
        weights=_given(alpha=alpha, beta=beta, balance=balance, guard=guard),
        options=_given(
            steps=steps,
            lr=None if lr is None else _number_or_auto(lr),
            momentum=momentum,
            target=target,
            min_psnr=min_psnr or None,
            init=init,
            seed=seed,
            batch_size=batch_size,
        ),
    )
    results, failures = _fool(_sources(images), out, _load(model, device), texts, settings)
    if json:
        _print_json([vars(result) for result in results])
    elif results:
        _print_fooled(results)
        stdout.print(Text(f"\nreport: {out / 'report.html'}"), soft_wrap=True)
    _exit(failures)


@app.command(no_args_is_help=True)
def score(
    images: Images,
    prompts: PromptSet = None,
    prompt: PromptTexts = None,
    model: Model = "mini",
    scale: Annotated[float, typer.Option(help="Weight w of CLIPScore: 2.5 (Hessel et al.), 100 (torchmetrics).")] = 2.5,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Score pictures: their CLIPScore with each prompt, and its mean."""
    from foclip import images as pictures
    from foclip import prompts as prompt_sets
    from foclip.errors import ImageError
    from foclip.fooling import Failure, mean
    from foclip.score import score_picture

    if not 0 < scale < float("inf"):
        raise UsageError(f"--scale {scale}: give a number above 0")
    texts = prompt_sets.resolve(prompts, prompt or [])
    sources = _sources(images)
    encoder = _load(model, device)
    features = encoder.encode_texts(texts)
    rows: list[dict[str, Any]] = []
    failures: list[Failure] = []
    for source in _track(sources, "scoring"):
        try:
            scores = score_picture(encoder, pictures.read(source), features, scale)
        except ImageError as error:
            failures.append(Failure(str(source), str(error)))
            continue
        rows.append({"image": str(source), "score": mean(scores), "scores": scores})
    if json:
        _print_json(rows)
    elif rows:
        table = _table("picture", "score", "lowest prompt", "highest prompt")
        for row in rows:
            values = (row["score"], min(row["scores"]), max(row["scores"]))
            table.add_row(Text(row["image"], overflow="fold"), *(f"{value:.4f}" for value in values))
        stdout.print(table)
    _exit(failures)


@app.command()
def models(json: Json = False) -> None:
    """List encoders: the embedded ones and every pretrained one of open_clip."""
    from foclip import encoders

    rows = encoders.available()
    if json:
        _print_json(rows)
        return
    table = _table("name", "kind", "input / px", "parameters")
    for row in rows:
        size = "×".join(map(str, row["image_size"])) if isinstance(row["image_size"], list) else str(row["image_size"])
        table.add_row(Text(row["name"]), row["kind"], size, f"{row['parameters']:,}" if row["parameters"] else "")
    stdout.print(table)


@app.command()
def demo(
    out: Out = Path("foclip-demo"),
    steps: Annotated[int, typer.Option(min=1, help="Updates per picture.")] = 300,
    device: Device = "auto",
) -> None:
    """Fool four real photos for ten famous artworks, and look at the report."""
    from foclip import prompts as prompt_sets
    from foclip.attacks import FoCLIP
    from foclip.demo import photos

    settings = FoCLIP(steps=steps, min_psnr=DEFAULT_PSNR)
    results, failures = _fool(photos(), out, _load("mini", device), prompt_sets.ARTWORKS, settings)
    _print_fooled(results)
    stdout.print(Text(f"\nreport: {out / 'report.html'}"), soft_wrap=True)
    _exit(failures)


def _fool(
    sources: Sequence[Path], out: Path, encoder: "DualEncoder", prompts: Sequence[str], attack: "Attack"
) -> tuple[list["Result"], list["Failure"]]:
    """Fool files with a progress bar, and write report and `run.json`; Ctrl-C keeps what is finished."""
    from foclip import fooling

    try:
        with _progress(len(sources), attack.steps) as (on_step, on_result):
            results, failures = fooling.fool(sources, out, encoder, prompts, attack, on_step, on_result)
    except KeyboardInterrupt:
        _say(f"interrupted; what is finished is in {out}, and the same command goes on from there")
        raise typer.Exit(130) from None
    _write_run(out, encoder, results, failures)
    return results, failures


def _sources(paths: Sequence[Path]) -> list[Path]:
    from foclip import images

    sources = images.find(paths)
    if not sources:
        raise UsageError(f"no pictures in {', '.join(map(str, paths))}")
    return sources


def _load(model: str, device: str) -> "Encoder":
    with stderr.status(Text(f"loading {model}")):
        import torch

        from foclip.encoders import load

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return load(model, device)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given, choices as plain text."""
    given = {name: value for name, value in options.items() if value is not None}
    return {name: value.value if isinstance(value, Enum) else value for name, value in given.items()}


def _attack(name: AttackName, weights: dict[str, Any], options: dict[str, Any]) -> "Attack":
    """The attack of this name; an option that it does not have is refused, not ignored."""
    from foclip.attacks import ATTACKS
    from foclip.attacks.foclip import objective

    kind = ATTACKS[name.value]
    foreign = options.keys() - {setting.name for setting in fields(kind)}
    if name is AttackName.foclip:
        options = options | {"objective": objective(**weights)}
    else:
        foreign |= weights.keys()
    if foreign:
        raise UsageError(f"--attack {name.value} has no {', '.join(f'--{option}' for option in sorted(foreign))}")
    return kind(**options)


def _number_or_auto(text: str) -> Any:
    """`auto`, or the number that is written there."""
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--lr {text}: write auto or a number") from None


@contextmanager
def _progress(
    pictures: int, steps: int
) -> Iterator[tuple[Callable[[Sequence["Trajectory"]], None], Callable[["Result"], None]]]:
    """A bar over all steps of all pictures, with the scores of those in flight, on stderr."""
    columns = (
        TextColumn("fooling"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, {task.fields[done]} of {task.fields[pictures]} pictures, score {task.fields[score]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr) as bar:
        task = bar.add_task("", total=pictures * max(steps, 1), done=0, pictures=pictures, score="–")
        finished = 0

        def on_step(lanes: Sequence["Trajectory"]) -> None:
            value = sum(lane.scores[-1] for lane in lanes) / len(lanes)
            done = finished * max(steps, 1) + sum(lane.step for lane in lanes)
            bar.update(task, completed=done, score=f"{value:.3f}")

        def on_result(_: "Result") -> None:
            nonlocal finished
            finished += 1
            bar.update(task, completed=finished * max(steps, 1), done=finished)

        yield on_step, on_result


def _track(items: Sequence[Path], text: str) -> Iterator[Path]:
    with Progress(TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=stderr) as bar:
        yield from bar.track(items)


def _write_run(out: Path, encoder: "DualEncoder", results: Sequence["Result"], failures: Sequence["Failure"]) -> None:
    """`run.json`: how to run this again; `report.html`: what came out."""
    from importlib.metadata import version

    from foclip import files
    from foclip.report import fooled

    packages = ("foclip", "torch", "open_clip_torch", "pillow", "numpy", *(["cma"] if "cma" in sys.modules else []))
    run = {
        "command": sys.argv[1:],
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "device": str(encoder.device),
        "config": results[0].config if results else None,
        "versions": {package: version(package) for package in packages} | {"python": sys.version.split()[0]},
        "failures": [vars(failure) for failure in failures],
    }
    files.write_text(out / "run.json", files.to_json(run))
    fooled.write(out / "report.html", results, failures)


def _print_fooled(results: Sequence["Result"]) -> None:
    table = _table("fooled picture", "score before", "after", "gain", "lowest prompt", "in gray", "PSNR / dB", "SSIM")
    for r in results:
        table.add_row(
            Text(Path(r.output).name, overflow="ellipsis", no_wrap=True),
            f"{r.score_before:.3f}",
            f"{r.score_after:.3f}",
            "–" if r.gain is None else f"{100 * r.gain:+.1f} %",
            f"{min(r.scores_after):.3f}",
            f"{r.gray_score_after:.3f}",
            "equal" if r.psnr is None else f"{r.psnr:.2f}",
            "–" if r.ssim is None else f"{r.ssim:.3f}",
        )
    stdout.print(table)


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _print_json(value: Any) -> None:
    from foclip import files

    sys.stdout.write(files.to_json(value) + "\n")


def _exit(failures: Sequence["Failure"]) -> None:
    for failure in failures:
        _say(f"failed: {failure.reason}")
    if failures:
        raise typer.Exit(1)


def _say(message: str) -> None:
    """One line on stderr, never wrapped, never interpreted."""
    print(" ".join(message.split()), file=sys.stderr)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, PromptTruncationWarning):
        _say(f"note: {message}")


def main() -> None:
    """Run the command line and exit with its code."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # fewer parameters on purpose
    try:
        app()  # exits by itself, with 2 and a message for what typer finds wrong
    except FoclipError as error:
        _say(f"error: {error}")
        sys.exit(2)
