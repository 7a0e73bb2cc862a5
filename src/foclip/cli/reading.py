"""What reads pictures: `foclip score` and `foclip detect`; and what there is to do so: `foclip models`, `scores`."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foclip.cli import console, options, progress
from foclip.cli.options import RUN, option, path
from foclip.errors import UsageError
from foclip.models import catalogue, registry

if TYPE_CHECKING:
    from foclip.core.scoring import Scored, ScoredBySeveral
    from foclip.detection import Detection

#: Characters of a prompt that a table on a terminal shows.
SHOWN = 24
#: How a verdict looks on a terminal.
STYLES = {"tampered": "bold red", "undecidable": "yellow", "clean": ""}


def score(
    images: options.Images,
    prompts: options.PromptSet = None,
    prompt: options.PromptTexts = None,
    captions: options.Captions = None,
    model: options.Model = "mini",
    score: str = option("clipscore", "Score (foclip scores), or several: A,B=MODEL,…", metavar="NAME"),
    hardened: str | None = option(
        None, "Hardened encoder to score with too; a large gap is suspicious.", metavar="NAME"
    ),
    json: options.Json = False,
    scale: float | None = option(None, "Weight w of CLIPScore: 2.5 (Hessel et al., default), 100 (torchmetrics).", RUN),
    prefix: str = option("", 'Before each prompt of CLIPScore: "A photo depicts" (Hessel et al.).', RUN),
    device: options.Device = "auto",
) -> None:
    """Score pictures: the mean score over the prompts, with the lowest and the highest; or several scores at once."""
    texts, scores = options.prompts(prompts, prompt), options.scores(score, model)
    names, models = zip(*scores.values(), strict=True)
    options.check([*models, hardened], names, captions, texts=texts, need_prompts=True, pictures=images, json=json)
    if (scale is not None or prefix) and "clipscore" not in names:
        raise UsageError(f"--{'scale' if scale is not None else 'prefix'}: {score} has none; clipscore has")
    if hardened and len(scores) > 1:
        raise UsageError("--hardened: goes with one score")
    chosen = progress.load_several(scores, device)
    from foclip import api
    from foclip.models.scores import CLIPScore
    from foclip.models.scores.clip import SCALE

    for called, scorer in chosen.items():
        if (scale is not None or prefix) and type(scorer) is CLIPScore:
            chosen[called] = CLIPScore(scorer.encoder, SCALE if scale is None else scale, prefix)
    with progress.bars() as shown:
        if len(chosen) > 1:
            several = api.score_by_several(images, texts, scorers=chosen, captions=captions, progress=shown)
            return console.show(several, json, _print_several)
        one = chosen[score]
        found = api.score(images, texts, model=one, captions=captions, hardened=hardened, progress=shown)
    console.show(found, json, _print_scores)


def _print_several(rows: "Sequence[ScoredBySeveral]") -> None:
    def cells(row: "ScoredBySeveral") -> list[str]:
        return [row.image, *(console.figure(value, 4) for value in row.scores.values())]

    console.table(("picture", *rows[0].scores), map(cells, rows))


def _print_scores(rows: "Sequence[Scored]") -> None:
    hardened = ("on the hardened", "gap") if rows[0].gap is not None else ()
    several = ("lowest prompt", "highest prompt") if any(len(row.scores) > 1 for row in rows) else ()

    def cells(row: "Scored") -> list[str]:
        figures = [row.score, *((row.hardened_score, row.gap) if hardened else ())]
        ends = (min(row.scores), max(row.scores)) if several else ()
        named = [f"{console.figure(end, 4)} {_short(row.prompts[row.scores.index(end)])}" for end in ends]
        return [row.image, *(console.figure(value, 4) for value in figures), *named]

    console.table(("picture", "score", *hardened, *several), map(cells, rows))


def _short(prompt: str) -> str:
    whole = len(prompt) <= SHOWN or not console.stdout.is_terminal
    return prompt if whole else f"{prompt[: SHOWN - 1]}…"


def detect(
    images: options.Images,
    prompts: options.PromptSet = None,
    prompt: options.PromptTexts = None,
    captions: options.Captions = None,
    model: options.Model = "mini",
    score: options.ScoreName = "clipscore",
    detector: options.DetectorFile = None,
    fpr: options.Bound = None,
    fdr: options.FalseDiscoveries = None,
    out: Path | None = option(None, "Folder for a report: an HTML page and a CSV table.", metavar="DIR", parser=path),
    json: options.Json = False,
    method: options.Method = "combined",
    seed: options.ProbeSeed = None,
    hardened: options.HardenedNames = None,
    device: options.Device = "auto",
) -> None:
    """Detect fooled pictures, with prompts or without."""
    texts = options.prompts(prompts, prompt)
    models, names = [model, *(hardened or ())], ("run.json", "verdicts.html", "verdicts.csv")
    options.check(
        models,
        score,
        captions,
        texts=texts,
        fpr=fpr,
        detector=detector,
        pictures=images,
        json=json,
        out=out,
        written=names,
    )
    loaded = progress.load(model, score, device)
    from foclip import api
    from foclip.detection.conformal import unlike
    from foclip.detection.detector import Detector, shipped_or_none
    from foclip.detection.peers import FDR, reference
    from foclip.detection.probes import require_embedding

    chosen = require_embedding(loaded)
    judge = shipped_or_none(chosen.encoder) if detector is None else Detector.load(detector)
    if judge and (note := judge.note(chosen.info.name)):
        console.say(note)
    with progress.bars() as shown:
        found = api.detect(
            images,
            texts,
            detector=judge,
            method=method,
            fpr=fpr,
            fdr=fdr,
            captions=captions,
            model=chosen,
            hardened=hardened or (),
            seed=seed,
            progress=shown,
        )
    if judge and (note := unlike([row.p_value for row in found if row.p_value is not None])):
        console.say(note)
    if judge is None and found.results:
        console.say(reference(len(found), chosen.encoder.name))
    console.list_results(found, json, _print_detections)  # before anything is drawn: that may take a while, or fail
    if out:
        from foclip.reports import detected

        by = {"detector": judge.name, "fpr": judge.fpr if fpr is None else fpr} if judge else {"fdr": fdr or FDR}
        console.record(out, chosen, found.failures, by)
        with progress.bars() as shown:
            detected.write(out, found, chosen, judge, fpr if judge else fdr, shown)
        if not json:
            console.where(report=out / detected.PAGE, table=out / detected.TABLE)
    console.finish(found.failures)


def _print_detections(rows: "Sequence[Detection]") -> None:
    peers = any(row.q_value is not None for row in rows)

    def cells(row: "Detection") -> list[str]:
        figures = [console.figure(value) for value in (row.drop, row.drift, row.score)]
        rates = [row.p_value, row.q_value] if peers else [row.p_value]
        return [row.image, row.verdict, *(console.figure(rate, 4) for rate in rates), row.probe or "–", *figures]

    headings = ("picture", "verdict", "p", *(["q"] if peers else []), "probe", "drop", "drift", "score")
    console.table(headings, map(cells, rows), [STYLES[row.verdict] for row in rows])
    if any(row.verdict == "undecidable" for row in rows):
        console.line(
            "undecidable: the picture is gray already, so there is no colour to lose, and nothing else is suspicious"
        )


def models(json: options.Json = False) -> None:
    """List encoders: the embedded ones and every pretrained one of open_clip."""
    rows = catalogue.available()
    if json:
        return console.print_json(rows)

    def cells(row: dict[str, Any]) -> list[str]:
        size = "×".join(map(str, row["image_size"])) if isinstance(row["image_size"], list) else str(row["image_size"])
        return [row["name"], row["kind"], size, f"{row['parameters']:,}" if row["parameters"] else "–"]

    console.table(("name", "kind", "input / px", "parameters"), map(cells, rows))


def scores(json: options.Json = False) -> None:
    """List scores: the names that --score takes, and what each needs besides an encoder."""
    rows = [_described(name) for name in registry.available()]
    if json:
        return console.print_json(rows)
    for row in rows:
        console.line(f"{row['name']:<12} {row['about']}")
        if row["needs"]:
            console.line(f"{'':<12} needs {row['needs']}")


def _described(name: str) -> dict[str, Any]:
    """A score as its class, or the function that makes it, describes it; or why it cannot be loaded."""
    try:
        factory = registry.factory(name)
    except UsageError as error:
        return {"name": name, "prompts": [], "about": str(error), "needs": ""}
    kind = getattr(factory, "__self__", factory)  # a class whose method makes it
    prompts = kind.info.default_prompts if hasattr(kind, "info") else ()
    about = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
    return {"name": name, "prompts": list(prompts), "about": about, "needs": registry.needs(name)}
