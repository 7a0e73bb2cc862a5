"""`foclip score`, and what there is to score with: `foclip models` and `foclip scores`."""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foclip.cli import console, options, progress
from foclip.cli.options import RUN, option
from foclip.errors import UsageError
from foclip.models import catalogue, registry

if TYPE_CHECKING:
    from foclip.core.scoring import Scored

#: Characters of a prompt that a table on a terminal shows.
SHOWN = 24


def score(
    images: options.Images,
    prompts: options.PromptSet = None,
    prompt: options.PromptTexts = None,
    captions: options.Captions = None,
    model: options.Model = "mini",
    score: options.ScoreName = "clipscore",
    hardened: str | None = option(
        None, "Hardened encoder that scores each picture too; the gap tells.", metavar="NAME"
    ),
    json: options.Json = False,
    scale: float | None = option(None, "Weight w of CLIPScore: 2.5 (Hessel et al., default), 100 (torchmetrics).", RUN),
    device: options.Device = "auto",
) -> None:
    """Score pictures: their score with each prompt, and its mean."""
    texts = options.prompts(prompts, prompt)
    options.check([model, hardened], score, captions, pictures=images, json=json)
    if scale is not None and score != "clipscore":
        raise UsageError(f"--scale: {score} has no weight")
    chosen = progress.load(model, score, device)
    from foclip import api
    from foclip.models.scores import CLIPScore

    if scale is not None and isinstance(chosen, CLIPScore):
        chosen = CLIPScore(chosen.encoder, scale)
    with progress.bars() as shown:
        found = api.score(images, texts, model=chosen, captions=captions, hardened=hardened, progress=shown)
    console.show(found, json, _print)


def _print(rows: "Sequence[Scored]") -> None:
    hardened = ("on the hardened", "gap") if rows[0].gap is not None else ()
    several = ("lowest prompt", "highest prompt") if any(len(row.scores) > 1 for row in rows) else ()
    table = console.Table("picture", "score", *hardened, *several)
    for row in rows:
        figures = [row.score, *((row.hardened_score, row.gap) if hardened else ())]
        ends = (min(row.scores), max(row.scores)) if several else ()
        named = [f"{console.figure(end, 4)} {_short(row.prompts[row.scores.index(end)])}" for end in ends]
        table.add(row.image, *(console.figure(value, 4) for value in figures), *named)
    table.show()


def _short(prompt: str) -> str:
    whole = len(prompt) <= SHOWN or not console.stdout.is_terminal
    return prompt if whole else f"{prompt[: SHOWN - 1]}…"


def models(json: options.Json = False) -> None:
    """List encoders: the embedded ones and every pretrained one of open_clip."""
    rows = catalogue.available()
    if json:
        return console.print_json(rows)
    table = console.Table("name", "kind", "input / px", "parameters")
    for row in rows:
        size = "×".join(map(str, row["image_size"])) if isinstance(row["image_size"], list) else str(row["image_size"])
        table.add(row["name"], row["kind"], size, f"{row['parameters']:,}" if row["parameters"] else "–")
    table.show()


def scores(json: options.Json = False) -> None:
    """List scores: what can be fooled, read and defended."""
    rows = [_described(name) for name in registry.available()]
    if json:
        return console.print_json(rows)
    for row in rows:
        console.line(f"{row['name']:<12} {row['about']}")


def _described(name: str) -> dict[str, Any]:
    """A score as its class, or the function that makes it, describes it; or why it cannot be loaded."""
    try:
        factory = registry.factory(name)
    except UsageError as error:
        return {"name": name, "prompts": [], "about": str(error)}
    kind = getattr(factory, "__self__", factory)  # a class whose method makes it
    prompts = kind.info.default_prompts if hasattr(kind, "info") else ()
    about = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
    return {"name": name, "prompts": list(prompts), "about": about}
