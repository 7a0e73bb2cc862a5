"""`foclip fool`."""

import json as json_format
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from foclip.attacks import NAMES
from foclip.cli import checks, console, progress
from foclip.cli.demonstrating import fool_files, print_results
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
    results = fool_files(images, texts, captions, out, chosen, made, workers=workers, engine=engine, address=address)
    console.show(results, json, partial(print_results, out=out))


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
