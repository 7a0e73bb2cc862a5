"""`foclip score`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from foclip.cli import checks, console, progress
from foclip.cli.options import (
    RUN,
    Captions,
    Device,
    HardenedName,
    Images,
    Json,
    Model,
    PromptSet,
    PromptTexts,
    ScoreName,
)
from foclip.errors import UsageError

if TYPE_CHECKING:
    from foclip.core.scoring import Scored

#: Characters of a prompt that a table on a terminal shows.
SHOWN = 24


def score(
    images: Images,
    prompts: PromptSet = None,
    prompt: PromptTexts = None,
    captions: Captions = None,
    model: Model = "mini",
    score: ScoreName = "clipscore",
    hardened: HardenedName = None,
    json: Json = False,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Weight w of CLIPScore: 2.5 (Hessel et al., default), 100 (torchmetrics).",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Score pictures: their score with each prompt, and its mean."""
    texts = checks.prompts(prompts, prompt)
    checks.captions(captions)
    checks.models(model, *([hardened] if hardened else []))
    checks.score(score)
    checks.images(images, json)
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
