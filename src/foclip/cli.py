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
from foclip.harden.command import harden

if TYPE_CHECKING:
    from foclip.attacks import Attack, Trajectory
    from foclip.encoders import DualEncoder, Encoder
    from foclip.fooling import Failure, Result
    from foclip.studies import Finished

app = typer.Typer(
    name="foclip",
    help="Can a CLIP-based score be trusted? Fool it, measure it, catch what fooled it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(no_args_is_help=True)(harden)
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


class By(str, Enum):
    combined = "combined"
    rule = "rule"


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

#: Pictures held in memory at a time by `detect`.
DETECT_AT_ONCE = 32
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


@app.command(no_args_is_help=True)
def detect(
    images: Images,
    prompts: PromptSet = None,
    prompt: PromptTexts = None,
    model: Model = "mini",
    detector: Annotated[
        Path | None,
        typer.Option(help="File of foclip calibrate; default: the one that comes with the model.", show_default=False),
    ] = None,
    by: Annotated[By, typer.Option(help="The combined detector, or the paper's rule of two thresholds.")] = By.combined,
    fpr: Annotated[
        float | None,
        typer.Option(help="Bound on false alarms; default: the detector's own.", show_default=False),
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Detect fooled pictures, with the prompts of a score or without any."""
    from foclip import images as pictures
    from foclip import prompts as prompt_sets
    from foclip.detection import Detector, measure
    from foclip.detection.detector import shipped
    from foclip.errors import ImageError
    from foclip.fooling import Failure

    texts = prompt_sets.resolve(prompts, prompt or []) if prompts or prompt else None
    sources = _sources(images)
    encoder = _load(model, device)
    chosen = Detector.load(detector) if detector else shipped(encoder)
    chosen.check(encoder)
    looks = ["gray"] if by is By.rule else chosen.transformations  # what nothing looks at costs nothing
    features = None if texts is None else encoder.encode_texts(texts)
    rows: list[dict[str, Any]] = []
    failures: list[Failure] = []
    with _track_counts() as track:
        report = track("detecting", len(sources))
        for first in range(0, len(sources), DETECT_AT_ONCE):
            readable = []
            for source in sources[first : first + DETECT_AT_ONCE]:
                try:
                    readable.append((source, pictures.read(source)))
                except ImageError as error:
                    failures.append(Failure(str(source), str(error)))
            found = measure(encoder, [picture for _, picture in readable], features, looks)
            for (source, _), sensitivity in zip(readable, found, strict=True):
                verdict = chosen.judge(sensitivity, by.value, fpr)
                rows.append(
                    {
                        "image": str(source),
                        "tampered": verdict.verdict == "tampered",
                        "verdict": verdict.verdict,
                        "score": sensitivity.score,
                        "gray_score": sensitivity.scores.get("gray"),
                        "drop": sensitivity.drops.get("gray"),
                        "drift": sensitivity.drifts["gray"],
                        "p_value": verdict.p_value,
                        "decided_by": verdict.decided_by,
                        "detector": chosen.name,
                    }
                )
            report(min(first + DETECT_AT_ONCE, len(sources)))
    if json:
        _print_json(rows)
    elif rows:
        _print_verdicts(rows)
    _exit(failures)


@app.command(no_args_is_help=True)
def calibrate(
    clean: Annotated[
        list[Path], typer.Option("--clean", help="Folder of clean pictures, or a picture; may be repeated.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Detector file to write; the report goes beside it.")],
    prompts: PromptSet = None,
    prompt: PromptTexts = None,
    model: Model = "mini",
    fpr: Annotated[float, typer.Option(help="Bound on false alarms that the detector promises.")] = 0.01,
    fooled: Annotated[int, typer.Option(min=4, help="Pictures to fool at most.")] = 120,
    steps: Annotated[int, typer.Option(min=1, help="Updates per picture of the attack to be caught.")] = 300,
    min_psnr: Annotated[float, typer.Option(help="Fidelity budget of that attack, dB.")] = DEFAULT_PSNR,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Calibrate a detector on clean pictures: fools some of them and bounds the false alarms."""
    from foclip import detection, files
    from foclip import prompts as prompt_sets
    from foclip.attacks import FoCLIP
    from foclip.attacks.foclip import objective
    from foclip.report import calibration

    texts = prompt_sets.resolve(prompts or (None if prompt else "artworks"), prompt or [])
    sources = _sources(clean)
    if out.suffix != ".json":
        raise UsageError(f"--out {out}: give a file name that ends in .json")
    files.output_folder(out.parent)
    attack = FoCLIP(objective=objective(), steps=steps, min_psnr=min_psnr)
    work = out.with_name(f"{out.stem}-fooled")
    encoder = _load(model, device)
    try:
        with _track_counts() as track:
            found = detection.calibrate(
                sources, [texts] * len(sources), encoder, attack, fpr, work, fooled, out.stem, track
            )
    except KeyboardInterrupt:
        _say(f"interrupted; fooled pictures are kept in {work}, and the same command goes on from there")
        raise typer.Exit(130) from None
    found.detector.save(out)
    report = out.with_suffix(".html")
    calibration.write(report, found)
    summary = calibration.summary(found)
    if json:
        _print_json({"detector": str(out), "report": str(report), "methods": summary})
    else:
        table = _table("method", "AUC", "caught", "false alarms", "balanced accuracy")
        for row in summary:
            values = (row[key] for key in ("auc", "caught", "false_alarms", "balanced_accuracy"))
            table.add_row(row["method"], *(f"{value:.3f}" for value in values))
        stdout.print(table)
        stdout.print(Text(f"\ndetector: {out}\nreport: {report}"), soft_wrap=True)
    _exit(found.failures)


@app.command(no_args_is_help=True)
def reproduce(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY…", help="Studies (docs/studies.md says what each asks), or all.")
    ],
    out: Out,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer pictures and steps.")] = False,
    images: Annotated[
        Path | None, typer.Option(help="Folder of your own pictures instead of the photos at hand.", metavar="DIR")
    ] = None,
    paintings: Annotated[
        Path | None, typer.Option(help="Folder of real paintings, scored beside the photos.", metavar="DIR")
    ] = None,
    model: Model = "mini",
    also: Annotated[
        list[str] | None, typer.Option(help="Another encoder for transfer; may be repeated.", metavar="NAME")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws of pictures and prompts, and of the attacks.")] = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Reproduce the paper and answer its open questions: tables, figures and one report.

    Stopped in the middle, the same command goes on: what is finished is kept in DIR/cells.
    """
    from foclip import files
    from foclip import studies as experiments
    from foclip.encoders import embedded
    from foclip.report import studies as report

    known = experiments.names()
    chosen = known if "all" in studies else list(dict.fromkeys(studies))
    if unknown := [name for name in chosen if name not in known]:
        raise UsageError(f"no study {', '.join(unknown)}: choose from {', '.join(known)}, all")
    settings = experiments.Settings(quick, images, paintings, seed)
    files.output_folder(out)
    encoders = [_load(name, device) for name in dict.fromkeys([model, *embedded.names(), *(also or [])])]
    finished: list[experiments.Finished] = []
    try:
        with _track_counts() as track:
            lab = experiments.Lab(encoders, out, settings, track)
            run = {
                "command": sys.argv[1:],
                "model": encoders[0].name,
                "fingerprints": {encoder.name: encoder.fingerprint for encoder in encoders},
                "device": str(encoders[0].device),
                "settings": vars(settings) | {"images": _text(images), "paintings": _text(paintings)},
                "pictures": [picture.name for picture in lab.pictures],
                "paintings": [painting.name for painting in lab.paintings],
                "versions": _versions("pandas", "scipy", "scikit-learn", "scikit-image"),
                "failures": [vars(failure) for failure in lab.failures],
            }
            files.write_text(out / "run.json", files.to_json(run))
            for done in experiments.reproduce(chosen, lab, out):
                finished.append(done)
                report.write(out / "report.html", finished, run, lab.failures)
    except KeyboardInterrupt:
        _say(f"interrupted; what is finished is in {out}, and the same command goes on from there")
        raise typer.Exit(130) from None
    if json:
        _print_json({"report": str(out / "report.html"), "studies": [_study_as_json(out, study) for study in finished]})
    else:
        table = _table("figure of the paper", "paper", "ours", "photos")
        for beside in (beside for study in finished for beside in study.page.beside):
            table.add_row(
                Text(beside.quantity), f"{100 * beside.paper:.1f} %", f"{beside.ours:.1%}", str(beside.ours.photos)
            )
        if table.row_count:
            stdout.print(table)
        stdout.print(Text(f"\nreport: {out / 'report.html'}"), soft_wrap=True)
    _exit(lab.failures)


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


@contextmanager
def _track_counts() -> Iterator[Callable[[str, int], Callable[[float], None]]]:
    """One bar per stage of a work of several, on stderr: `track(text, total)` gives what to call with the count."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr) as bar:

        def track(text: str, total: int) -> Callable[[float], None]:
            task = bar.add_task(text, total=total)
            return lambda done: bar.update(task, completed=done)

        yield track


def _track(items: Sequence[Path], text: str) -> Iterator[Path]:
    with Progress(TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=stderr) as bar:
        yield from bar.track(items)


def _study_as_json(out: Path, study: "Finished") -> dict[str, Any]:
    return {
        "name": study.name,
        "table": str(out / study.name / "table.csv"),
        "findings": study.page.findings,
        "beside": [
            {"quantity": beside.quantity, "paper": beside.paper, "ours": vars(beside.ours)}
            for beside in study.page.beside
        ],
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _versions(*further: str) -> dict[str, str]:
    """Versions of Python and of the packages that figures depend on."""
    from importlib.metadata import version

    packages = ("foclip", "torch", "open_clip_torch", "pillow", "numpy", *further)
    return {package: version(package) for package in packages} | {"python": sys.version.split()[0]}


def _write_run(out: Path, encoder: "DualEncoder", results: Sequence["Result"], failures: Sequence["Failure"]) -> None:
    """`run.json`: how to run this again; `report.html`: what came out."""
    from foclip import files
    from foclip.report import fooled

    run = {
        "command": sys.argv[1:],
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "device": str(encoder.device),
        "config": results[0].config if results else None,
        "versions": _versions(*(["cma"] if "cma" in sys.modules else [])),
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


def _print_verdicts(rows: Sequence[dict[str, Any]]) -> None:
    table = _table("picture", "verdict", "p", "drop", "drift", "score", "in gray")
    style = {"tampered": "bold red", "undecidable": "yellow", "clean": ""}
    for row in rows:
        values = ("–" if (v := row[key]) is None else f"{v:.3f}" for key in ("drop", "drift", "score", "gray_score"))
        p = "–" if row["p_value"] is None else f"{row['p_value']:.4f}"
        verdict = Text(row["verdict"], style=style[row["verdict"]])
        table.add_row(Text(row["image"], overflow="fold"), verdict, p, *values)
    stdout.print(table)
    if any(row["verdict"] == "undecidable" for row in rows):
        stdout.print("undecidable: the picture is gray already, so there is no colour to lose")


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
