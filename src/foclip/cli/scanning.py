"""`foclip scan`."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from foclip.cli import console, options, progress
from foclip.cli.options import DATA, RUN, option, path
from foclip.errors import UsageError


def scan(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="Folders of pictures, WebDataset tars, Parquet tables, globs of them; paths or URLs (s3://…).",
        ),
    ],
    out: Path | None = option(None, "Folder for results.", metavar="DIR", parser=path),
    dry_run: bool = option(False, "List what would be read, with sample rows; write nothing.", name="--dry-run"),
    model: options.Model = "mini",
    score: options.ScoreName = "clipscore",
    detector: options.DetectorFile = None,
    fpr: options.Bound = None,
    fdr: options.FalseDiscoveries = None,
    scores_only: bool = option(False, "No verdicts: one pass a picture.", name="--scores-only"),
    keep: Path | None = option(
        None,
        "File for the rows that pass (no error, not tampered): sorted uids (.npy), keys (.txt) or rows (.parquet).",
        metavar="FILE",
        parser=path,
    ),
    min_score: float | None = option(None, "Lowest score that passes."),
    only_clean: bool = option(False, "Let no undecidable rows pass.", name="--only-clean"),
    retry_errors: bool = option(False, "Repeat only the rows that had an error.", name="--retry-errors"),
    json: options.Json = False,
    method: options.Method = "combined",
    seed: options.ProbeSeed = None,
    image: str | None = option(None, "Column of pictures (bytes or paths), if not recognised.", DATA, metavar="COLUMN"),
    caption: str | None = option(
        None, "Column, or JSON field, of captions, if not recognised.", DATA, metavar="COLUMN"
    ),
    key: str | None = option(None, "Column, or JSON field, that identifies a row.", DATA, metavar="COLUMN"),
    workers: int | None = option(None, "Processes; default: one per core.", RUN, min=1),
    batch_size: int = option(32, "Pictures handed to a process at a time.", RUN, min=1),
    engine: options.Engine = "local",
    address: options.Address = None,
    device: options.Device = "auto",
) -> None:
    """Scan data sets: every row gets a score and a verdict, or an error."""
    if min_score is not None and keep is None:
        raise UsageError("--min-score: for --keep")
    if only_clean and keep is None:
        raise UsageError("--only-clean: for --keep")
    if dry_run:
        _preview(sources, image, caption, key, json)
        return
    if out is None:
        raise UsageError("--out: name a folder for results, or give --dry-run")
    names = ("run.json", "report.html", "summary.json")
    options.check([model], score, fpr=fpr, engine=engine, address=address, detector=detector, out=out, written=names)
    chosen = progress.load(model, score, device)
    from foclip import files, scanning
    from foclip.data.sources import Columns
    from foclip.reports import scan as report
    from foclip.runs.folder import Run
    from foclip.scanning import exporting
    from foclip.scanning.summary import summarise

    columns, settings = Columns(image, caption, key), scanning.Settings(workers, batch_size, retry_errors, address)
    if keep:
        exporting.check(keep, sources, columns)
    judge, why_none = (None, None) if scores_only else scanning.detector_of(chosen, detector)
    if note := why_none or (judge and judge.note(chosen.info.name)):
        console.say(note)
    judged = partial(
        scanning.scan, model=chosen, detector=judge, method=method, fpr=fpr, seed=seed, fdr=fdr, scores_only=scores_only
    )
    with progress.resumable(f"what is finished is in {out}") as shown:
        folder = judged(sources, out, columns=columns, engine=engine, settings=settings, progress=shown)
        found = summarise(folder, chosen.info.scale)
        content = found.as_dict()
        files.write_text(out / "summary.json", files.to_json(content))
        report.write(out / "report.html", folder, found)
        kept = exporting.export(folder, keep, min_score, only_clean) if keep else None
        if kept is not None:
            content |= {"kept": kept}
            files.write_text(out / "summary.json", files.to_json(content))
        Run(out).record(sys.argv[1:], content, ["pyarrow", *(["ray"] if engine == "ray" else [])])
    if json:
        console.print_json(content | {"parts": str(folder.parts), "report": str(out / "report.html")})
    else:
        verdicts = {verdict: found.verdicts[verdict] for verdict in ("clean", "tampered", "undecidable")}
        counts = verdicts if found.judged else {"scored": found.scored}
        counts |= {"without caption": found.unscored, "not read": found.failed} | (
            {} if kept is None else {"kept": kept}
        )
        rows = ((name, f"{count:,}", f"{count / max(found.rows, 1):.2%}") for name, count in counts.items())
        console.table(("", "rows", "of all"), rows)
        console.where(parts=folder.parts, summary=out / "summary.json", report=out / "report.html")
    if passed := (folder.manifest() or {}).get("passed_over"):
        console.say(f"passed over: {', '.join(f'{count:,} {kind}' for kind, count in passed.items())}")
    for kind, count in found.errors.most_common():
        console.say(f"failed: {count:,} × {kind}; the first: {found.examples[kind]}")
    if found.failed:
        raise typer.Exit(1)


def _preview(sources: list[str], image: str | None, caption: str | None, key: str | None, json: bool) -> None:
    from foclip.data.sources import Columns
    from foclip.scanning.preview import preview

    found = preview(sources, Columns(image, caption, key))
    if json:
        console.print_json(found)
        return
    for kind, count in found["shards"].items():
        known = f", {found['rows'][kind]:,} rows" if kind in found["rows"] else ""
        console.line(f"{kind}: {count:,} shards{known}")
    if found["columns"]:
        console.line("columns: " + ", ".join(f"{role} from {name}" for role, name in found["columns"].items()))
    if found["passed_over"]:
        console.line("passed over: " + ", ".join(f"{count:,} {kind}" for kind, count in found["passed_over"].items()))
    captions = sum(row["caption"] is not None for row in found["samples"])
    console.line(f"{captions} of {len(found['samples'])} sample rows have a caption")
    rows = [(row["key"], row["kind"], row["error"] or row["caption"] or "no caption") for row in found["samples"]]
    console.table(("key", "kind", "caption"), rows)
