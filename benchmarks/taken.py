"""Make records of finished runs of `foclip reproduce`, for `python -m benchmarks.docs --from`."""

import json
import shlex
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.pages import shown, study_format
from benchmarks.record import FIGURES, ROOT, Record
from foclip import files
from foclip.errors import UsageError
from foclip.runs import provenance
from foclip.studies import available
from foclip.studies.harness import TABLE, Study, StudyResult, png, read

#: Where the drawings of studies are.
DRAWINGS = ROOT / "docs" / "results"
#: What fooled pictures come from; its revision is told apart.
ATTACKS = ("src/foclip/attacks", "src/foclip/objective.py", "src/foclip/perceptual", ":!src/foclip/attacks/__init__.py")


def take(folders: Sequence[Path], commit: str | None) -> None:
    """Make records of all studies in finished runs, and draw their figures into docs/results.

    Of a study with one encoder, the first folder that has its table counts.

    Args:
        folders: What `foclip reproduce --out` named.
        commit: That of the code of runs that do not tell it.

    Raises:
        UsageError: A run needs `commit`, or a column of a study has no format in `benchmarks.formats`.
    """
    known = available()
    runs = [(folder, name) for name in known for folder in folders if (folder / name / TABLE).is_file()]
    done: dict[str, Path] = {}
    for folder, name in runs:
        run = _run(folder, name, commit)
        label = name if run["model"] == "mini" else f"{name}-{run['model']}"
        if label not in done:
            done[label] = folder
            result = read(known[name], folder)
            record.write(f"study-{label}", _record(known[name], result, run), FIGURES)
            for drawing, plot in result.report.figures.items():
                files.write_bytes(files.output_folder(DRAWINGS) / f"{label}-{drawing}.png", png(plot, 90))
    for label, folder in done.items():
        print(f"study-{label}: from {folder}")
    for name in sorted(known.keys() - {name for _, name in runs}):
        print(f"{name}: in none of the runs")


def _run(folder: Path, study: str, commit: str | None) -> dict[str, Any]:
    """What `run.json` says of the last call that ran a study, with what it rests on and was made with."""
    last = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    calls = [last, *reversed(last.get("earlier", []))]
    run: dict[str, Any] = next(each for each in calls if {study, "all"} & {*each.get("studies", ()), *each["command"]})
    if "parts" in run:
        return run
    if commit is None:
        raise UsageError(f"{folder}: its code did not record what it rests on; give its commit with --commit")
    day = datetime.fromtimestamp((folder / study / TABLE).stat().st_mtime, timezone.utc)
    versions = run["versions"]
    about = {"foclip": versions["foclip"], "commit": commit, "date": f"{day:%Y-%m-%d}"}
    machine = provenance.made()["machine"] | {"torch": versions["torch"]}
    return run | {"made": about | {"machine": machine}, "parts": parts_of(commit)}


def parts_of(commit: str) -> dict[str, str]:
    """What figures of a commit may rest on. If nothing of its attacks has changed since, they have today's revision."""

    def shipped(path: str) -> bytes:
        asked = ["git", "show", f"{commit}:src/foclip/{path}"]
        shown = subprocess.run(asked, cwd=ROOT, stdout=subprocess.PIPE, check=False)
        if shown.returncode:
            raise UsageError(f"commit {commit} is not here, or has no {path}")
        return shown.stdout

    found = provenance.parts(shipped)
    changed = subprocess.run(["git", "diff", "--quiet", commit, "--", *ATTACKS], cwd=ROOT, check=False).returncode
    return found if found["attack"] != "0" or changed else found | {"attack": provenance.parts()["attack"]}


def _record(study: Study, result: StudyResult, run: dict[str, Any]) -> Record:
    """Findings, summary and comparisons of a study."""
    report, settings, models = result.report, run["settings"], run["fingerprints"]
    words = ["foclip", "reproduce", study.name, *["--quick"][: settings["quick"]]]
    words += ["--model", run["model"]] if run["model"] != "mini" else []
    for option in ("images", "paintings"):
        words += [f"--{option}", Path(settings[option]).name] if settings[option] else []
    words += ["--seed", str(settings["seed"])] if settings["seed"] else []
    compared = [
        {"figure": each.quantity, "paper": each.paper, "ours": record.cell(each.ours), "photos": each.ours.photos}
        for each in report.comparisons
    ]
    tables: dict[str, list[dict[str, Any]]] = {
        "findings": [{"finding": finding} for finding in report.findings],
        "summary": [row(study.name, each) for each in report.summary.to_dict("records")],
        "drawings": [{"drawing": each} for each in report.figures],
        "comparisons": compared,
    }
    kinds = ("weights", "detector") if study.judged else ("weights",)
    wanted = ["attack", *(f"{kind} {model}" for kind in kinds for model in models)]
    return Record(
        title=result.title,
        command=shlex.join([*words, "--out", "DIR"]),
        settings={"quick": settings["quick"], "photos": len(run["pictures"]), "model": run["model"]},
        made=run["made"],
        parts={part: run["parts"][part] for part in wanted if part in run["parts"]},
        tables=tables,
    )


def row(study: str, printed: dict[Any, Any]) -> dict[str, Any]:
    """A row of a summary in numbers, which must print as the study prints them; else a `UsageError`."""
    found = {str(column): record.parsed(text) for column, text in printed.items()}
    for column, text in printed.items():
        again = shown(found[str(column)], study_format(f"study-{study}", str(column)))
        if again != str(text):
            missing = f"{text} would be {again}; add its format to benchmarks/formats.py"
            raise UsageError(f"{study}, column {column}: {missing}")
    return found
