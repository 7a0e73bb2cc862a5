"""`foclip reproduce`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foclip.cli import console, options, progress
from foclip.cli.options import DATA, RUN, option, path
from foclip.errors import UsageError

if TYPE_CHECKING:
    from foclip.models.scorer import Scorer
    from foclip.studies.harness import StudyResult


def reproduce(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY…", help="Studies (docs/studies.md says what each asks), or all.")
    ],
    out: options.Out,
    quick: bool = option(False, "Fewer pictures and steps.", name="--quick"),
    images: Path | None = option(
        None, "Your own pictures. Default: colour photos that come with installed packages.", metavar="DIR", parser=path
    ),
    paintings: Path | None = option(
        None, "Real paintings, which the study artworks scores beside the photos.", metavar="DIR", parser=path
    ),
    model: options.Model = "mini",
    score: options.ScoreName = "clipscore",
    json: options.Json = False,
    also: list[str] | None = option(
        None, "One more encoder for the study transfer; may be repeated.", DATA, metavar="NAME"
    ),
    hardened: list[str] | None = option(
        None,
        "Hardened encoder for robust and detectors; may be repeated. Default: the one that comes with the model.",
        DATA,
        metavar="NAME",
    ),
    seed: int = option(0, "Seed of pictures, prompts and attacks.", RUN),
    engine: options.Engine = "local",
    address: options.Address = None,
    device: options.Device = "auto",
) -> None:
    """Reproduce the paper and answer its open questions: tables, figures and one report.

    If it is stopped, the same command goes on: what is finished is kept in DIR/cache.
    """
    from foclip import studies as experiments
    from foclip.models import embedded

    names = [*experiments.names(), "all"]
    if unknown := [name for name in studies if name not in names]:
        raise UsageError(f"no study {', '.join(unknown)}: choose from {', '.join(names)}")
    named = [model, *(also or []), *(hardened or [])]
    options.check(named, score, engine=engine, address=address, images=images, paintings=paintings, out=out)
    # A hardened encoder is no second encoder: it was made from the first. Name it with --also to see what transfers.
    all_hardened = {name for names in embedded.HARDENED.values() for name in names}
    others = [name for name in embedded.names() if name not in all_hardened]
    wanted = dict.fromkeys([model, *others, *(also or [])])
    found = (_load(name, score, device, name in named) for name in wanted)
    loaded = [scorer for scorer in found if scorer is not None]
    loaded_hardened = [progress.load(name, score, device) for name in hardened or embedded.HARDENED.get(model, ())[:1]]
    from foclip.detection.probes import require_embedding
    from foclip.runs import provenance
    from foclip.runs.folder import Run
    from foclip.runs.fooling import running
    from foclip.studies import harness

    known = experiments.available()
    chosen = list(known) if "all" in studies else list(dict.fromkeys(studies))
    scores: list[Any] = loaded
    if any(known[name].embeddings for name in chosen):
        scores = list(map(require_embedding, loaded))
    hardened_scores = list(map(require_embedding, loaded_hardened))
    settings = harness.StudySettings(quick, images, paintings, seed)
    finished: list[StudyResult] = []
    shown = {name: done for name, study in known.items() if name not in chosen and (done := harness.kept(study, out))}
    report = out / "report.html"
    with (
        Run(out, harness.CACHE) as folder,
        progress.resumable(f"what is finished is in {out}") as shown_progress,
        running(engine, address) as attacks,
    ):
        work = harness.StudyContext(scores, out, settings, shown_progress, hardened_scores, attacks)
        folders = {"images": images and str(images), "paintings": paintings and str(paintings)}
        run = {
            "studies": chosen,
            "model": work.score.model,
            "score": work.score.info.name,
            "fingerprints": {each.model: each.fingerprint for each in (*scores, *hardened_scores)},
            "device": str(work.score.device),
            "settings": vars(settings) | folders,
            "pictures": [picture.name for picture in work.pictures],
            "paintings": [painting.name for painting in work.paintings],
            "failures": [vars(failure) for failure in work.failures],
            "made": provenance.made(),
            "parts": provenance.parts(),
        }
        recorded = folder.record(sys.argv[1:], run, ["pandas", "scipy", "scikit-learn", "scikit-image"])
        for name in chosen:
            shown[name] = harness.reproduce(known[name], work, out)
            finished.append(shown[name])
            harness.write_html(report, [shown[name] for name in known if name in shown], recorded, work.failures)
    if json:
        console.print_json({"report": str(report), "studies": [_as_json(out, study) for study in finished]})
    else:
        rows = (
            (found.quantity, f"{100 * found.paper:.1f} %", f"{found.ours:.1%}", str(found.ours.photos))
            for study in finished
            for found in study.report.comparisons
        )
        console.table(("figure of the paper", "paper", "ours", "photos"), rows)
        console.where(report=report)
    console.finish(work.failures)


def _load(name: str, score: str, device: str, named: bool) -> "Scorer | None":
    """The score over an encoder; None over one that nobody named and that cannot give it."""
    try:
        return progress.load(name, score, device)
    except UsageError:
        if named:
            raise
        return None


def _as_json(out: Path, study: "StudyResult") -> dict[str, Any]:
    return {
        "name": study.name,
        "table": str(out / study.name / "table.csv"),
        "findings": study.report.findings,
        "comparisons": [vars(found) | {"ours": vars(found.ours)} for found in study.report.comparisons],
    }
