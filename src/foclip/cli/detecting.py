"""`foclip detect`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foclip.cli import console, options, progress
from foclip.cli.options import option, path

if TYPE_CHECKING:
    from foclip.detection import Detection


def detect(
    images: options.Images,
    prompts: options.PromptSet = None,
    prompt: options.PromptTexts = None,
    captions: options.Captions = None,
    model: options.Model = "mini",
    score: options.ScoreName = "clipscore",
    detector: options.DetectorFile = None,
    fpr: options.Bound = None,
    out: Path | None = option(None, "Folder for a report: a page and a table.", metavar="DIR", parser=path),
    json: options.Json = False,
    method: options.Method = "combined",
    seed: options.ProbeSeed = None,
    hardened: options.HardenedNames = None,
    device: options.Device = "auto",
) -> None:
    """Detect fooled pictures, with the prompts of a score or without any."""
    texts = options.prompts(prompts, prompt)
    models, names = [model, *(hardened or ())], ("run.json", "verdicts.html", "verdicts.csv")
    options.check(
        models, score, captions, fpr=fpr, detector=detector, pictures=images, json=json, out=out, written=names
    )
    loaded = progress.load(model, score, device)
    from foclip import api
    from foclip.detection.detector import Detector, shipped
    from foclip.detection.probes import require_embedding
    from foclip.reports import detected

    chosen = require_embedding(loaded)
    judge = shipped(chosen.encoder) if detector is None else Detector.load(detector)
    with progress.bars() as shown:
        found = api.detect(
            images,
            texts,
            model=chosen,
            detector=judge,
            method=method,
            fpr=fpr,
            captions=captions,
            hardened=hardened or (),
            seed=seed,
            progress=shown,
        )
    console.list_results(found, json, _print)  # before anything is drawn: that may take a while, or fail
    if out:
        bound = judge.fpr if fpr is None else fpr
        console.record(out, chosen, found.failures, {"detector": judge.name, "fpr": bound})
        with progress.bars() as shown:
            detected.write(out, found, chosen, judge, fpr, shown)
        if not json:
            console.where(report=out / detected.PAGE, table=out / detected.TABLE)
    console.finish(found.failures)


def _print(rows: "Sequence[Detection]") -> None:
    table = console.Table("picture", "verdict", "p", "probe", "drop", "drift", "score")
    style = {"tampered": "bold red", "undecidable": "yellow", "clean": ""}
    for row in rows:
        figures = (console.figure(value) for value in (row.drop, row.drift, row.score))
        p_value = console.figure(row.p_value, 4)
        table.add(row.image, row.verdict, p_value, row.probe or "–", *figures, style=style[row.verdict])
    table.show()
    if any(row.verdict == "undecidable" for row in rows):
        console.line(
            "undecidable: the picture is gray already, so there is no colour to lose, and nothing else is suspicious"
        )
