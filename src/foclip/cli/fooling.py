"""`foclip fool` and `foclip demo`."""

import json as json_format
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from foclip.attacks import NAMES
from foclip.cli import checks, console, progress
from foclip.cli.options import (
    ATTACK,
    RUN,
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
    given,
    number_or_auto,
)
from foclip.errors import UsageError

if TYPE_CHECKING:
    from foclip.attacks import AttackPlan
    from foclip.models.scorer import Scorer
    from foclip.outcome import Outcome
    from foclip.runs.results import Result

    AttackName = str
else:
    AttackName = Literal[NAMES]


def fool(
    images: Images,
    out: Out,
    prompts: PromptSet = None,
    prompt: PromptTexts = None,
    captions: Captions = None,
    model: Model = "mini",
    score: ScoreName = "clipscore",
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Limit that the written file keeps: psnr, ssim, linf, delta_e, delta_e99, flip, flip99 (the worst "
            "places), as in flip99:0.2 or ssim:0.98; may be repeated. Default flip99:0.2, which nobody notices.",
            metavar="METRIC:LIMIT",
            show_default=False,
        ),
    ] = None,
    min_psnr: Annotated[
        float | None,
        typer.Option(
            help="The paper's limit in dB, without a mask; 0 for none.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[float | None, typer.Option(help="Stop at this mean score (CLIPScore: w = 2.5).")] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Updates per picture; cmaes: queries. Default 150; pgd, apgd and adam 1000, mifgsm 10, cmaes 10000.",
        ),
    ] = None,
    json: Json = False,
    attack: Annotated[AttackName, typer.Option(help="How a picture moves.", rich_help_panel=ATTACK)] = "foclip",
    lr: Annotated[
        str | None,
        typer.Option(
            help="Step size: auto, or a number taken literally (the papers: foclip 7, adam 0.1). Default auto. "
            "For foclip, adam and single-prompt.",
            rich_help_panel=ATTACK,
        ),
    ] = None,
    momentum: Annotated[
        float | None,
        typer.Option(
            help="Momentum, in [0, 1). Default 0.9, less for fewer than 60 steps, and 0.5 if --lr is a number. "
            "For foclip and single-prompt.",
            rich_help_panel=ATTACK,
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Weight of the score balance. Default 1. For foclip.", rich_help_panel=ATTACK),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="Weight of the pixel guard. Default 1. For foclip.", rich_help_panel=ATTACK)
    ] = None,
    balance: Annotated[
        Literal["variance", "kl"] | None,
        typer.Option(help="Kind of score balance. Default variance. For foclip.", rich_help_panel=ATTACK),
    ] = None,
    guard: Annotated[
        Literal["range", "l2"] | None,
        typer.Option(help="Kind of pixel guard. Default range. For foclip.", rich_help_panel=ATTACK),
    ] = None,
    attack_option: Annotated[
        list[str] | None,
        typer.Option(
            help="An option that only this attack has, as epsilon=8 of pgd; may be repeated.",
            metavar="NAME=VALUE",
            show_default=False,
            rich_help_panel=ATTACK,
        ),
    ] = None,
    mask: Annotated[
        Literal["none", "visible"] | None,
        typer.Option(
            help="Move pixels where it is seen least, or all alike. Default visible; none with --min-psnr alone.",
            rich_help_panel=ATTACK,
        ),
    ] = None,
    init: Annotated[
        Literal["image", "noise"] | None,
        typer.Option(
            help="Start from the picture or from noise of its size. Default image; "
            "for adam without a budget noise, as its authors have it.",
            rich_help_panel=ATTACK,
        ),
    ] = None,
    rise: Annotated[
        float | None, typer.Option(help="Stop once the mean score is up by this.", rich_help_panel=ATTACK)
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1, help="Stop once the objective has not fallen within so many steps.", rich_help_panel=ATTACK
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise and of cmaes.", rich_help_panel=ATTACK)] = 0,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures in one batch; default by encoder.", show_default=False, rich_help_panel=RUN),
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"] | None,
        typer.Option(
            help="What the image tower computes in during the attack; files are read in float32. auto: bfloat16 where "
            "that is measured to be faster, so that the result depends on the machine. Default float32.",
            rich_help_panel=RUN,
        ),
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the image tower first (torch.compile, on a GPU with CUDA graphs). That takes a minute or "
            "two, which pay in long runs. Where it fails, fool says so and goes on without. Rounding differs a little.",
            rich_help_panel=RUN,
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Batches at once, each on a core of its own. Default: the cores, for small towers on a CPU; else 1. "
            "Results do not depend on it.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    engine: Engine = "local",
    address: Address = None,
    device: Device = "auto",
) -> None:
    """Fool pictures: make them score high for every prompt while they look the same."""
    from foclip.perceptual.budget import parse

    checks.engine(engine, address)
    texts = checks.prompts(prompts, prompt)
    checks.captions(captions)
    budgets = tuple(parse(text) for text in budget or ())
    step_size = None if lr is None else number_or_auto(lr)
    own = [_option(text) for text in attack_option or ()]
    checks.models(model)
    checks.score(score)
    checks.images(images, json)
    checks.out(out, "run.json", "report.html")
    chosen = progress.load(model, score, device)
    from foclip.attacks import ATTACKS, default_plan, fastest_precision
    from foclip.models.scorer import EmbeddingScorer

    settings = given(
        {
            "alpha": alpha,
            "beta": beta,
            "balance": balance,
            "guard": guard,
            "steps": steps,
            "lr": step_size,
            "momentum": momentum,
            "target": target,
            "rise": rise,
            "patience": patience,
            "min_psnr": min_psnr,
            "budgets": budgets or None,
            "mask": mask,
            "init": init,
            "seed": seed,
            "batch_size": batch_size,
            "precision": None if precision == "auto" else precision,
            "compiled": compiled or None,
        }
    )
    made = default_plan(chosen, ATTACKS[attack], **settings, **_own(attack, own))
    if compiled:
        console.say("note: compiling the image tower, which takes minutes")
    if precision == "auto":
        if not isinstance(chosen, EmbeddingScorer):
            raise UsageError(f"--precision auto: {score} has no encoder to measure; choose float32")
        best, ratio = fastest_precision(made.execution, chosen)
        console.say(f"note: {best}, since bfloat16 is {ratio:.2g} times as fast as float32 here")
        made = made.replace(precision=best)
    results = _fool(images, texts, captions, out, chosen, made, workers=workers, engine=engine, address=address)
    console.show(results, json, partial(_print, out=out))


def demo(
    out: Out = Path("foclip-demo"),
    steps: Annotated[int, typer.Option(min=1, help="Updates per picture.")] = 70,
    device: Device = "auto",
) -> None:
    """Fool four real photos for ten famous artworks, and look at the report."""
    checks.out(out, "run.json", "report.html")
    chosen = progress.load("mini", "clipscore", device)
    from foclip.attacks import default_plan
    from foclip.data.prompts import ARTWORKS
    from foclip.demo import photos

    results = _fool(photos(), list(ARTWORKS), None, out, chosen, default_plan(chosen, steps=steps))
    console.show(results, False, partial(_print, out=out))


def _fool(
    sources: Sequence[Path],
    prompts: list[str] | None,
    captions: str | None,
    out: Path,
    score: "Scorer",
    attack: "AttackPlan",
    **how: Any,
) -> "Outcome[Result]":
    """Fool files with a progress bar, and write report and `run.json`; Ctrl-C keeps what is finished."""
    from foclip.reports.fooled import FooledReport
    from foclip.runs import fooling
    from foclip.runs.folder import Run
    from foclip.runs.results import read_results

    report = FooledReport()
    with progress.resumable(f"what is finished is in {out}, and the same command goes on from there") as shown:
        done = fooling.fool(
            sources,
            prompts,
            out,
            model=score,
            attack=attack,
            captions=captions,
            progress=shown,
            on_result=report.add,
            **how,
        )
        run = {
            "model": score.model,
            "score": score.info.name,
            "fingerprint": score.fingerprint,
            "device": str(score.device),
            "config": attack.config(),
            "failures": [vars(failure) for failure in done.failures],
        }
        Run(out).record(sys.argv[1:], run, ["cma"] if "cma" in sys.modules else [])
        report.write(out / "report.html", read_results(out), done.failures)
    return done


def _option(text: str) -> tuple[str, Any]:
    """Name and value of `NAME=VALUE`; the value is a number if it can be one."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"--attack-option {text}: write NAME=VALUE, as in epsilon=8")
    try:
        return name.replace("-", "_"), json_format.loads(value)
    except ValueError:
        return name.replace("-", "_"), value


def _own(attack: str, options: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The options that only this attack has."""
    from foclip.attacks import ATTACKS, Attack

    known = {setting.name: setting.type for setting in fields(ATTACKS[attack])}
    own = sorted(known.keys() - {setting.name for setting in fields(Attack)} - {"lr", "momentum"})
    for name, value in options:
        if name not in own:
            raise UsageError(
                f"--attack-option {name}: --attack {attack} has {', '.join(own) or 'no option of its own'}"
            )
        if not isinstance(value, int | float):
            raise UsageError(f"--attack-option {name}={value}: give a number")
    return dict(options)


def _print(results: Sequence["Result"], out: Path) -> None:
    table = console.Table(
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
        table.add(
            Path(result.output).name,
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
    table.show()
    console.where(report=out / "report.html")
