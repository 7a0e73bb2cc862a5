"""`foclip fool`, and `foclip demo`, which fools four photos."""

import json as json_format
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from foclip.attacks import NAMES
from foclip.cli import console, options, progress
from foclip.cli.options import ATTACK, RUN, option
from foclip.errors import UsageError
from foclip.perceptual.budget import Budget, parse

if TYPE_CHECKING:
    from foclip.attacks import AttackPlan
    from foclip.models.scorer import Scorer
    from foclip.runs.folder import Result

    AttackName = str
else:
    AttackName = Literal[NAMES]

#: What `--attack` takes, for its help: a list between angle brackets would be cut in the middle of a name.
METHODS = f"How a picture moves: {', '.join(NAMES)}."
#: Options that are settings of a plan (`foclip.attacks.default_plan`).
SETTINGS = (
    *("alpha", "beta", "balance", "guard"),  # the objective
    *("lr", "momentum", "init", "seed"),  # how a picture moves
    *("budgets", "min_psnr", "mask"),  # what it must keep to
    *("steps", "target", "rise", "patience"),  # when the attack ends
    *("batch_size", "precision", "compiled"),  # how it is run
)


def _own_option(text: str) -> tuple[str, Any]:
    """Name and number of `NAME=VALUE`."""
    name, _, value = text.partition("=")
    try:
        number = json_format.loads(value)
    except ValueError:
        number = None
    if not name or not isinstance(number, int | float):
        raise UsageError(f"--attack-option {text}: write NAME=VALUE with a number, as in epsilon=8")
    return name.replace("-", "_"), number


def fool(
    images: options.Images,
    out: options.Out,
    prompts: options.PromptSet = None,
    prompt: options.PromptTexts = None,
    captions: options.Captions = None,
    model: options.Model = "mini",
    score: options.ScoreName = "clipscore",
    budgets: list[Budget] | None = option(
        None,
        "Limit that the written file never violates: invisible (contrast:0.425, the default), discreet (flip99:0.2), "
        "or a metric and its limit, as in ssim:0.98; metrics are contrast, psnr, ssim, linf, delta_e, delta_e99, flip "
        "and flip99 (99: in the worst places); may be repeated.",
        name="--budget",
        metavar="METRIC:LIMIT",
        parser=parse,
    ),
    min_psnr: float | None = option(None, "The paper's limit: lowest PSNR in dB, without a mask; 0: no limit."),
    target: float | None = option(None, "Stop once the mean score over the prompts reaches this (CLIPScore: w = 2.5)."),
    steps: int | None = option(
        None, "Updates per picture; cmaes: queries. Default 150; pgd, apgd, adam 1000, mifgsm 10, cmaes 10000.", min=0
    ),
    json: options.Json = False,
    attack: AttackName = option("foclip", METHODS, ATTACK, metavar="NAME"),
    lr: str | None = option(
        None,
        "Step size: auto, or a number (in their papers: foclip 7, adam 0.1). For foclip, adam and single-prompt.",
        ATTACK,
    ),
    momentum: float | None = option(
        None, "In [0, 1). Default 0.9, less below 60 steps; 0.5 if --lr is a number. For foclip, single-prompt.", ATTACK
    ),
    alpha: float | None = option(None, "Weight of the score balance. Default 1. For foclip.", ATTACK),
    beta: float | None = option(None, "Weight of the pixel guard. Default 1. For foclip.", ATTACK),
    balance: Literal["variance", "kl"] | None = option(None, "Kind of balance. Default variance. For foclip.", ATTACK),
    guard: Literal["range", "l2"] | None = option(None, "Kind of pixel guard. Default range. For foclip.", ATTACK),
    attack_option: list[Any] | None = option(
        None, "Setting of the attack (pgd: epsilon=8); repeatable.", ATTACK, metavar="NAME=VALUE", parser=_own_option
    ),
    mask: Literal["none", "visible"] | None = option(
        None,
        "Move pixels where a change is hard to see, or all alike. Default visible; none with --min-psnr alone.",
        ATTACK,
    ),
    init: Literal["image", "noise"] | None = option(
        None,
        "Start from the picture or from noise. Default image; noise for adam without a budget, as in its paper.",
        ATTACK,
    ),
    rise: float | None = option(None, "Stop once the mean score has risen by this.", ATTACK),
    patience: int | None = option(None, "Stop once the objective has not fallen for so many steps.", ATTACK, min=1),
    seed: int = option(0, "Seed of the noise and of cmaes.", ATTACK),
    batch_size: int | None = option(None, "Pictures in one batch. The default depends on the encoder.", RUN, min=1),
    precision: Literal["float32", "bfloat16", "auto"] | None = option(
        None, "Of the attack; the written file is scored in float32. auto: what is faster here. Default float32.", RUN
    ),
    compiled: bool = option(
        False,
        "Compile the image tower, which takes minutes; if it cannot be compiled, go on. Rounding differs.",
        RUN,
        name="--compile",
    ),
    workers: int | None = option(
        None,
        "Batches at once; results do not depend on it. Default: one per core for small towers on a CPU, else 1.",
        RUN,
        min=1,
    ),
    engine: options.Engine = "local",
    address: options.Address = None,
    device: options.Device = "auto",
    opened: bool = option(False, "Open the report in the browser at the end.", RUN, name="--open"),
) -> None:
    """Fool pictures: make them score high for every prompt, while they look the same."""
    given = dict(locals())
    texts = options.prompts(prompts, prompt)
    if lr is not None and lr != "auto":
        try:
            given["lr"] = float(lr)
        except ValueError:
            raise UsageError(f"--lr {lr}: write auto or a number") from None
    if precision == "auto":
        given["precision"] = None
    options.check(
        [model],
        score,
        captions,
        texts=texts,
        need_prompts=True,
        engine=engine,
        address=address,
        pictures=images,
        json=json,
        out=out,
    )
    chosen = progress.load(model, score, device)
    from foclip.attacks import ATTACKS, Attack, default_plan, fastest_precision
    from foclip.models.scorer import EmbeddingScorer

    of_attack, of_all = ({setting.name for setting in fields(kind)} for kind in (ATTACKS[attack], Attack))
    known, own = sorted(of_attack - of_all - {"lr", "momentum"}), dict(attack_option or [])
    if unknown := [name for name in own if name not in known]:
        has = ", ".join(known) or "no option of its own"
        raise UsageError(f"--attack-option {unknown[0]}: --attack {attack} has {has}")
    settings = {name: given[name] for name in SETTINGS if given[name] not in (None, [])}
    plan = default_plan(chosen, ATTACKS[attack], **settings, **own)
    if compiled:
        console.say("note: compiling the image tower, which takes minutes")
    if precision == "auto":
        if not isinstance(chosen, EmbeddingScorer):
            raise UsageError(f"--precision auto: {score} has no encoder to measure; choose float32")
        best, ratio = fastest_precision(plan.execution, chosen)
        console.say(f"note: {best}, since bfloat16 is {ratio:.2g} times as fast as float32 here")
        plan = plan.replace(precision=best)
    how = {"captions": captions, "workers": workers, "engine": engine, "address": address}
    _fool(chosen, plan, images, texts, out, json, opened, **how)


def demo(
    out: options.Out = Path("foclip-demo"),
    steps: int = option(70, "Updates per picture.", min=1),
    device: options.Device = "auto",
    opened: bool = option(False, "Open the report in the browser at the end.", name="--open"),
) -> None:
    """Fool four real photos for ten famous artworks, and look at the report."""
    options.check(out=out)
    chosen = progress.load("mini", "clipscore", device)
    from foclip.attacks import default_plan
    from foclip.data.prompts import ARTWORKS
    from foclip.demo import photos

    _fool(chosen, default_plan(chosen, steps=steps), photos(), list(ARTWORKS), out, opened=opened)


def _fool(
    score: "Scorer",
    plan: "AttackPlan",
    pictures: Sequence[Path],
    prompts: list[str] | None,
    out: Path,
    json: bool = False,
    opened: bool = False,
    **how: Any,
) -> None:
    """Fool files with a progress bar, write report and `run.json`, and print; Ctrl-C keeps what is finished."""
    from foclip.reports.fooled import FooledReport
    from foclip.runs import fooling
    from foclip.runs.folder import read_results

    report = FooledReport()
    with progress.resumable(f"what is finished is in {out}") as shown:
        done = fooling.fool(
            pictures, prompts, out, model=score, attack=plan, progress=shown, on_result=report.add, **how
        )
        packages = ["cma"] if "cma" in sys.modules else []
        console.record(out, score, done.failures, {"config": plan.config()}, packages)
        report.write(out / "report.html", read_results(out), done.failures)
        if opened:
            typer.launch((out / "report.html").resolve().as_uri())

    def print_table(results: Sequence["Result"]) -> None:
        rows = [_row(result) for result in results]
        console.table(tuple(rows[0]), [tuple(row.values()) for row in rows])
        console.where(report=out / "report.html")

    console.show(done, json, print_table)


def _row(result: "Result") -> dict[str, str]:
    """What the table shows of a picture, by its headings."""
    return {
        "fooled picture": Path(result.output).name,
        "score before": console.figure(result.score_before),
        "after": console.figure(result.score_after),
        "gain": "–" if result.gain is None else f"{100 * result.gain:+.1f} %",
        "lowest prompt": console.figure(min(result.scores_after)),
        "in gray": console.figure(result.gray_score_after),
        "PSNR / dB": "equal" if result.psnr_seen is None else console.figure(result.psnr_seen, 2),
        "SSIM": console.figure(result.ssim),
        "FLIP": console.figure(result.flip),
        "worst places": console.figure(result.flip99),
        "contrast": console.figure(result.contrast),
    }
