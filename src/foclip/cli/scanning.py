"""`foclip scan`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foclip.cli import checks, console, progress
from foclip.cli.options import (
    DATA,
    RUN,
    Address,
    Bound,
    DetectorFile,
    Device,
    Engine,
    Json,
    Method,
    Model,
    Out,
    ProbeSeed,
    ScoreName,
    path,
)
from foclip.errors import UsageError

if TYPE_CHECKING:
    from foclip.scanning.summary import Summary


def scan(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="Folders of pictures, WebDataset tars, Parquet tables, globs of them; paths or URLs (s3://…).",
        ),
    ],
    out: Out,
    model: Model = "mini",
    score: ScoreName = "clipscore",
    detector: DetectorFile = None,
    fpr: Bound = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Write what passes: DataComp's sorted uids (.npy), keys (.txt) or rows (.parquet).",
            metavar="FILE",
            show_default=False,
            parser=path,
        ),
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Least score of what passes.", show_default=False)] = None,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Do only the rows again that had an error.")
    ] = False,
    json: Json = False,
    method: Method = "combined",
    seed: ProbeSeed = None,
    image: Annotated[
        str | None,
        typer.Option(
            help="Column of pictures (bytes or paths), if not recognised.", metavar="COLUMN", rich_help_panel=DATA
        ),
    ] = None,
    caption: Annotated[
        str | None,
        typer.Option(
            help="Column, or JSON field, of captions, if not recognised.", metavar="COLUMN", rich_help_panel=DATA
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Column, or JSON field, that identifies a row.", metavar="COLUMN", rich_help_panel=DATA),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; default: one per core.", show_default=False, rich_help_panel=RUN),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pictures handed to a process at a time.", rich_help_panel=RUN)
    ] = 32,
    engine: Engine = "local",
    address: Address = None,
    device: Device = "auto",
) -> None:
    """Scan data sets: a score, a verdict and a reason for every row, or why it could not be read."""
    from foclip import files

    checks.engine(engine, address)
    checks.fpr(fpr)
    checks.folders("detector", [detector] if detector else [])
    checks.models(model)
    checks.score(score)
    if min_score is not None and keep is None:
        raise UsageError("--min-score: for --keep")
    checks.out(out, "run.json", "report.html", "summary.json")
    chosen = progress.load(model, score, device)
    from foclip import scanning
    from foclip.data.sources import Columns
    from foclip.reports import scan as report
    from foclip.runs.folder import Run
    from foclip.scanning import exporting
    from foclip.scanning.summary import summarise

    columns = Columns(image, caption, key)
    if keep:
        exporting.check(keep, sources, columns)
    judge, why_none = scanning.detector_of(chosen, detector)
    if why_none:
        console.say(why_none)
    settings = scanning.Settings(workers, batch_size, retry_errors, address)
    with progress.resumable(f"what is finished is in {out}, and the same command goes on from there") as shown:
        folder = scanning.scan(
            sources,
            out,
            model=chosen,
            detector=judge,
            method=method,
            fpr=fpr,
            seed=seed,
            columns=columns,
            engine=engine,
            settings=settings,
            progress=shown,
        )
        found = summarise(folder, chosen.info.scale)
        content = found.as_dict()
        files.write_text(out / "summary.json", files.to_json(content))
        report.write(out / "report.html", folder, found)
        kept = exporting.export(folder, keep, min_score) if keep else None
        if kept is not None:
            content |= {"kept": kept}
            files.write_text(out / "summary.json", files.to_json(content))
        Run(out).record(sys.argv[1:], content, ["pyarrow", *(["ray"] if engine == "ray" else [])])
    if json:
        console.print_json(content | {"parts": str(folder.parts), "report": str(out / "report.html")})
    else:
        _print(found, kept)
        console.where(parts=folder.parts, summary=out / "summary.json", report=out / "report.html")
    for kind, rows in found.errors.most_common():
        console.say(f"failed: {rows:,} × {kind}; the first: {found.examples[kind]}")
    if found.failed:
        raise typer.Exit(1)


def _print(found: "Summary", kept: int | None) -> None:
    table = console.Table("", "rows", "of all")
    if found.judged:
        shown = {verdict: found.verdicts[verdict] for verdict in ("clean", "tampered", "undecidable")}
    else:
        shown = {"scored": found.scored}
    shown["not read"] = found.failed
    for name, rows in (shown | ({} if kept is None else {"kept": kept})).items():
        table.add(name, f"{rows:,}", f"{rows / max(found.rows, 1):.2%}")
    table.show()
