"""`foclip reproduce`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foclip.cli import console
from foclip.cli.options import Address, Device, Engine, Json, Model, Out, ScoreName, check_engine, path
from foclip.errors import UsageError

if TYPE_CHECKING:
    from foclip.studies.harness import StudyResult


def reproduce(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY…", help="Studies (docs/studies.md says what each asks), or all.")
    ],
    out: Out,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer pictures and steps.")] = False,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of your own pictures instead of the photos at hand.", metavar="DIR", parser=path),
    ] = None,
    paintings: Annotated[
        Path | None,
        typer.Option(help="Folder of real paintings, scored beside the photos.", metavar="DIR", parser=path),
    ] = None,
    model: Model = "mini",
    score: ScoreName = "clipscore",
    also: Annotated[
        list[str] | None, typer.Option(help="Another encoder for transfer; may be repeated.", metavar="NAME")
    ] = None,
    twin: Annotated[
        list[str] | None,
        typer.Option(
            help="A hardened twin for robust, instead of the embedded encoder's own; may be repeated.", metavar="NAME"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws of pictures and prompts, and of the attacks.")] = 0,
    engine: Engine = "local",
    address: Address = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Reproduce the paper and answer its open questions: tables, figures and one report.

    Stopped in the middle, the same command goes on: what is finished is kept in DIR/cache.
    """
    from foclip import files
    from foclip import studies as experiments
    from foclip.cache import locked
    from foclip.models import embedded
    from foclip.runs.executors import running
    from foclip.runs.folder import Run
    from foclip.studies import harness
    from foclip.studies.harness.html import write_html

    check_engine(engine, address)
    known = experiments.available()
    if unknown := [name for name in studies if name not in known and name != "all"]:
        raise UsageError(f"no study {', '.join(unknown)}: choose from {', '.join(known)}, all")
    chosen = list(known) if "all" in studies else list(dict.fromkeys(studies))
    settings = harness.StudySettings(quick, images, paintings, seed)
    files.output_folder(out)
    files.output_files(out / "run.json", out / "report.html")
    # A twin is no second encoder: it was made from the first. Name it with --also to see what transfers to it.
    all_twins = {name for names in embedded.HARDENED.values() for name in names}
    others = [name for name in embedded.names() if name not in all_twins]
    names = list(dict.fromkeys([model, *others, *(also or [])]))
    scores = [console.load(name, score, device) for name in names]
    hardened = twin or embedded.HARDENED.get(model, ())[:1]
    twins = [console.load(name, score, device) for name in hardened]
    finished: list[harness.StudyResult] = []
    shown = {name: done for name, study in known.items() if name not in chosen and (done := harness.kept(study, out))}
    stopped = f"what is finished is in {out}, and the same command goes on from there"
    with locked(out), console.resumable(stopped) as progress, running(engine, address) as attacks:
        work = harness.StudyContext(scores, out, settings, progress, twins, attacks)
        run = {
            "model": work.score.model,
            "score": work.score.name,
            "fingerprints": {each.model: each.fingerprint for each in (*scores, *twins)},
            "device": str(work.score.device),
            "settings": vars(settings) | {"images": _text(images), "paintings": _text(paintings)},
            "pictures": [picture.name for picture in work.pictures],
            "paintings": [painting.name for painting in work.paintings],
            "failures": [vars(failure) for failure in work.failures],
        }
        recorded = Run(out).record(sys.argv[1:], run, ["pandas", "scipy", "scikit-learn", "scikit-image"])
        for name in chosen:
            finished.append(harness.reproduce(known[name], work, out))
            shown[name] = finished[-1]
            sections = [shown[name] for name in known if name in shown]
            write_html(out / "report.html", sections, recorded, work.failures)
    if json:
        console.print_json(
            {"report": str(out / "report.html"), "studies": [_as_json(out, study) for study in finished]}
        )
    else:
        _print(finished)
        console.where(report=out / "report.html")
    console.finish(work.failures)


def _print(finished: "list[StudyResult]") -> None:
    table = console.table("figure of the paper", "paper", "ours", "photos")
    for comparison in (comparison for study in finished for comparison in study.report.comparisons):
        table.add_row(
            console.cell(comparison.quantity),
            f"{100 * comparison.paper:.1f} %",
            f"{comparison.ours:.1%}",
            str(comparison.ours.photos),
        )
    if table.row_count:
        console.stdout.print(table)


def _as_json(out: Path, study: "StudyResult") -> dict[str, Any]:
    return {
        "name": study.name,
        "table": str(out / study.name / "table.csv"),
        "findings": study.report.findings,
        "comparisons": [
            {"quantity": comparison.quantity, "paper": comparison.paper, "ours": vars(comparison.ours)}
            for comparison in study.report.comparisons
        ],
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
