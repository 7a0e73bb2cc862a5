"""`foclip reproduce`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foclip.cli import checks, console, progress
from foclip.cli.options import DATA, RUN, Address, Device, Engine, Json, Model, Out, ScoreName, path
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
    json: Json = False,
    also: Annotated[
        list[str] | None,
        typer.Option(help="Another encoder for transfer; may be repeated.", metavar="NAME", rich_help_panel=DATA),
    ] = None,
    hardened: Annotated[
        list[str] | None,
        typer.Option(
            help="Hardened encoder for robust, instead of the embedded encoder's own; may be repeated.",
            metavar="NAME",
            rich_help_panel=DATA,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of pictures, prompts and attacks.", rich_help_panel=RUN)] = 0,
    engine: Engine = "local",
    address: Address = None,
    device: Device = "auto",
) -> None:
    """Reproduce the paper and answer its open questions: tables, figures and one report.

    Stopped in the middle, the same command goes on: what is finished is kept in DIR/cache.
    """
    from foclip import studies as experiments
    from foclip.models import embedded

    checks.engine(engine, address)
    known_names = experiments.names()
    if unknown := [name for name in studies if name not in known_names and name != "all"]:
        raise UsageError(f"no study {', '.join(unknown)}: choose from {', '.join(known_names)}, all")
    checks.folders("images", [images] if images else [])
    checks.folders("paintings", [paintings] if paintings else [])
    checks.models(model, *(also or []), *(hardened or []))
    checks.score(score)
    checks.out(out, "run.json", "report.html")
    # A hardened encoder is no second encoder: it was made from the first. Name it with --also to see what transfers.
    all_hardened = {name for names in embedded.HARDENED.values() for name in names}
    others = [name for name in embedded.names() if name not in all_hardened]
    names = list(dict.fromkeys([model, *others, *(also or [])]))
    scores = [progress.load_over_encoder(name, score, device) for name in names]
    hardened_scores = [
        progress.load_over_encoder(name, score, device) for name in hardened or embedded.HARDENED.get(model, ())[:1]
    ]
    from foclip.runs.executors import running
    from foclip.runs.folder import Run
    from foclip.studies import harness

    known = experiments.available()
    chosen = list(known) if "all" in studies else list(dict.fromkeys(studies))
    settings = harness.StudySettings(quick, images, paintings, seed)
    finished: list[harness.StudyResult] = []
    shown = {name: done for name, study in known.items() if name not in chosen and (done := harness.kept(study, out))}
    stopped = f"what is finished is in {out}, and the same command goes on from there"
    with (
        Run(out, harness.CACHE) as folder,
        progress.resumable(stopped) as shown_progress,
        running(engine, address) as attacks,
    ):
        work = harness.StudyContext(scores, out, settings, shown_progress, hardened_scores, attacks)
        run = {
            "model": work.score.model,
            "score": work.score.info.name,
            "fingerprints": {each.model: each.fingerprint for each in (*scores, *hardened_scores)},
            "device": str(work.score.device),
            "settings": vars(settings) | {"images": _text(images), "paintings": _text(paintings)},
            "pictures": [picture.name for picture in work.pictures],
            "paintings": [painting.name for painting in work.paintings],
            "failures": [vars(failure) for failure in work.failures],
        }
        recorded = folder.record(sys.argv[1:], run, ["pandas", "scipy", "scikit-learn", "scikit-image"])
        for name in chosen:
            finished.append(harness.reproduce(known[name], work, out))
            shown[name] = finished[-1]
            sections = [shown[name] for name in known if name in shown]
            harness.write_html(out / "report.html", sections, recorded, work.failures)
    if json:
        console.print_json(
            {"report": str(out / "report.html"), "studies": [_as_json(out, study) for study in finished]}
        )
    else:
        _print(finished)
        console.where(report=out / "report.html")
    console.finish(work.failures)


def _print(finished: "list[StudyResult]") -> None:
    table = console.Table("figure of the paper", "paper", "ours", "photos")
    for found in (found for study in finished for found in study.report.comparisons):
        table.add(found.quantity, f"{100 * found.paper:.1f} %", f"{found.ours:.1%}", str(found.ours.photos))
    table.show()


def _as_json(out: Path, study: "StudyResult") -> dict[str, Any]:
    return {
        "name": study.name,
        "table": str(out / study.name / "table.csv"),
        "findings": study.report.findings,
        "comparisons": [
            {"quantity": found.quantity, "paper": found.paper, "ours": vars(found.ours)}
            for found in study.report.comparisons
        ],
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
