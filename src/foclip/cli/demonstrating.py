"""`foclip demo`, and the work that it shares with `foclip fool`."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foclip.cli import checks, console, progress
from foclip.cli.options import Device, Out

if TYPE_CHECKING:
    from foclip.attacks import AttackPlan
    from foclip.models.scorer import Scorer
    from foclip.outcome import Outcome
    from foclip.runs.results import Result


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

    results = fool_files(photos(), list(ARTWORKS), None, out, chosen, default_plan(chosen, steps=steps))
    console.show(results, False, partial(print_results, out=out))


def fool_files(
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


def print_results(results: Sequence["Result"], out: Path) -> None:
    """Print a row of figures per fooled picture."""
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
