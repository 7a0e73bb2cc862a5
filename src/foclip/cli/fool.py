"""`foclip fool` and `foclip demo`."""

import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from foclip.cli import console
from foclip.cli.options import (
    Address,
    Captions,
    Device,
    Engine,
    Images,
    Json,
    Model,
    Out,
    PromptSet,
    PromptTexts,
    ScoreName,
    check_engine,
    given,
    prompts_of,
)
from foclip.errors import UsageError

if TYPE_CHECKING:
    from foclip.attacks import Attack
    from foclip.models.scores import EmbeddingScore
    from foclip.outcome import Outcome
    from foclip.runs.results import Result

AttackName = Literal["foclip", "pgd", "apgd", "adam", "mifgsm", "single-prompt", "cmaes"]


def fool(
    images: Images,
    out: Out,
    prompts: PromptSet = None,
    prompt: PromptTexts = None,
    captions: Captions = None,
    attack: Annotated[AttackName, typer.Option(help="Attack.")] = "foclip",
    steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Updates per picture; cmaes: queries. Default 150; pgd, apgd and adam 1000, mifgsm 10, cmaes 10000.",
        ),
    ] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            help="Step size: auto, or a number taken literally (the papers: foclip 7, adam 0.1). Default auto. "
            "For foclip, adam and single-prompt."
        ),
    ] = None,
    momentum: Annotated[
        float | None,
        typer.Option(
            help="Momentum, in [0, 1). Default 0.9, less for fewer than 60 steps, and 0.5 if --lr is a number. "
            "For foclip and single-prompt."
        ),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight of the score balance. Default 1. For foclip.")] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the pixel guard. Default 1. For foclip.")] = None,
    balance: Annotated[
        Literal["variance", "kl"] | None, typer.Option(help="Kind of score balance. Default variance. For foclip.")
    ] = None,
    guard: Annotated[
        Literal["range", "l2", "visible"] | None, typer.Option(help="Kind of pixel guard. Default range. For foclip.")
    ] = None,
    target: Annotated[float | None, typer.Option(help="Stop at this mean score (CLIPScore: w = 2.5).")] = None,
    rise: Annotated[float | None, typer.Option(help="Stop once the mean score is up by this.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop once the objective has not fallen within so many steps.")
    ] = None,
    min_psnr: Annotated[
        float | None,
        typer.Option(
            help="Fidelity budget in dB, never violated by the written file; 0 for none. Alone, it is the paper's: "
            "without a mask.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Budget on any figure: psnr, ssim, linf, delta_e, delta_e99, flip, flip99 (the worst places), as in "
            "flip99:0.2 or ssim:0.98; may be repeated. Default flip99:0.2, which nobody notices.",
            metavar="METRIC:LIMIT",
            show_default=False,
        ),
    ] = None,
    mask: Annotated[
        Literal["none", "visible"] | None,
        typer.Option(
            help="Move pixels where it is seen least, or all alike. Default visible; none with --min-psnr alone."
        ),
    ] = None,
    init: Annotated[
        Literal["image", "noise"] | None,
        typer.Option(
            help="Start from the picture or from noise of its size. Default image; "
            "for adam without a budget noise, as its authors have it."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Pictures in flight; default by encoder.", show_default=False)
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"] | None,
        typer.Option(
            help="What the image tower computes in on the way; files are read in float32. auto: bfloat16 where that "
            "is measured to be faster, so that the result depends on the machine. Default float32."
        ),
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the image tower first (torch.compile, on a GPU with CUDA graphs): a minute or two that pay "
            "in long runs. Where that fails, fool says so and goes on without. Rounding differs a little.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the noise and of cmaes.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Batches at once, each on a core of its own. Default: the cores, for small towers on a CPU; else 1. "
            "Results do not depend on it.",
            show_default=False,
        ),
    ] = None,
    engine: Engine = "local",
    address: Address = None,
    model: Model = "mini",
    score: ScoreName = "clipscore",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Fool pictures: make them score high for every prompt while they look the same."""
    from foclip.attacks import fastest
    from foclip.perceptual.budget import parse
    from foclip.runs.fooling import UNNOTICED

    check_engine(engine, address)
    texts = prompts_of(prompts, prompt)
    budgets = tuple(parse(text) for text in budget or ())
    if min_psnr is None and not budgets and init != "noise":
        budgets = UNNOTICED
    if budgets and mask is None:
        mask = "visible"
    if (min_psnr or budgets) and init is None:
        init = "image"
    weights = given({"alpha": alpha, "beta": beta, "balance": balance, "guard": guard})
    settings = given(
        {
            "steps": steps,
            "lr": None if lr is None else _number_or_auto(lr),
            "momentum": momentum,
            "target": target,
            "rise": rise,
            "patience": patience,
            "min_psnr": min_psnr or None,
            "budgets": budgets or None,
            "mask": mask,
            "init": init,
            "seed": seed,
            "batch_size": batch_size,
            "precision": None if precision == "auto" else precision,
            "compiled": compiled or None,
        }
    )
    _refuse_foreign(attack, weights.keys() | settings.keys())
    chosen = console.load(model, score, device)
    made = _attack(attack, weights, settings, chosen.temperature)
    if compiled:
        console.say("note: compiling the image tower, which takes minutes")
    if precision == "auto":
        best, ratio = fastest(made, chosen)
        console.say(f"note: {best}, since bfloat16 is {ratio:.2g} times as fast as float32 here")
        made = replace(made, precision=best)
    results = _fool(images, texts, captions, out, chosen, made, workers=workers, engine=engine, address=address)
    console.show(results, json, partial(_print, out=out))


def demo(
    out: Out = Path("foclip-demo"),
    steps: Annotated[int, typer.Option(min=1, help="Updates per picture.")] = 70,
    device: Device = "auto",
) -> None:
    """Fool four real photos for ten famous artworks, and look at the report."""
    from foclip.attacks import FoCLIP
    from foclip.data.prompts import ARTWORKS
    from foclip.demo import photos
    from foclip.runs.fooling import UNNOTICED

    chosen = console.load("mini", "clipscore", device)
    results = _fool(photos(), list(ARTWORKS), None, out, chosen, FoCLIP(steps=steps, budgets=UNNOTICED, mask="visible"))
    console.show(results, False, partial(_print, out=out))


def _fool(
    sources: Sequence[Path],
    prompts: list[str] | None,
    captions: str | None,
    out: Path,
    score: "EmbeddingScore",
    attack: "Attack",
    **how: Any,
) -> "Outcome[Result]":
    """Fool files with a progress bar, and write report and `run.json`; Ctrl-C keeps what is finished."""
    from foclip import files
    from foclip.reports.fooled import FooledReport
    from foclip.runs import fooling
    from foclip.runs.folder import Run
    from foclip.runs.results import read_results

    path, report = out / "report.html", FooledReport()
    files.output_files(files.output_folder(out) / "run.json", path)
    with console.resumable(f"what is finished is in {out}, and the same command goes on from there") as progress:
        done = fooling.fool(
            sources,
            prompts,
            out,
            model=score,
            attack=attack,
            captions=captions,
            progress=progress,
            on_result=report.add,
            **how,
        )
        run = {
            "model": score.model,
            "score": score.name,
            "fingerprint": score.fingerprint,
            "device": str(score.device),
            "config": attack.config(),
            "failures": [vars(failure) for failure in done.failures],
        }
        Run(out).record(sys.argv[1:], run, ["cma"] if "cma" in sys.modules else [])
        report.write(path, read_results(out), done.failures)
    return done


def _refuse_foreign(name: str, options: set[str]) -> None:
    """An option that an attack does not have is refused, not ignored."""
    from foclip.attacks import ATTACKS

    own = {setting.name for setting in fields(ATTACKS[name])}
    weights = {"alpha", "beta", "balance", "guard"} if name == "foclip" else set()
    if foreign := options - own - weights:
        raise UsageError(f"--attack {name} has no {', '.join(f'--{option}' for option in sorted(foreign))}")


def _attack(name: str, weights: dict[str, Any], settings: dict[str, Any], temperature: float) -> "Attack":
    from foclip.attacks import ATTACKS, objective

    if name == "foclip":
        settings = settings | {"objective": objective(**weights, temperature=temperature)}
    return ATTACKS[name](**settings)


def _number_or_auto(text: str) -> Any:
    """`auto`, or the number that is written there."""
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--lr {text}: write auto or a number") from None


def _print(results: Sequence["Result"], out: Path) -> None:
    table = console.table(
        "fooled picture",
        "score before",
        "after",
        "gain",
        "lowest prompt",
        "in gray",
        "PSNR / dB",
        "SSIM",
        "FLIP",
        "worst places",
    )
    for result in results:
        table.add_row(
            console.cell(Path(result.output).name),
            console.figure(result.score_before),
            console.figure(result.score_after),
            "–" if result.gain is None else f"{100 * result.gain:+.1f} %",
            console.figure(min(result.scores_after)),
            console.figure(result.gray_score_after),
            "equal" if result.psnr_seen is None else console.figure(result.psnr_seen, 2),
            console.figure(result.ssim),
            console.figure(result.flip),
            console.figure(result.flip99),
        )
    console.stdout.print(table)
    console.where(report=out / "report.html")
