"""The tab *Compare*: one picture, or it before and after, by several scores and encoders."""

from functools import partial
from typing import Any

import gradio as gr

from foclip.app import views
from foclip.app.limits import Upload, prompts_of, uploads
from foclip.app.served import Served, scorer_of
from foclip.core.scoring import score
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.data.samples import Sample
from foclip.errors import FoclipError, UsageError
from foclip.models import embedded, registry
from foclip.outcome import Failure


def tab(served: Served) -> None:
    """Lay the tab out."""
    # Other scores need weights, which visitors cannot bring.
    encoders, scores = embedded.names(), [name for name in registry.available() if not registry.needs(name)]
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            before = gr.File(label="A picture", elem_id="compare-before", height=120)
            after = gr.File(label="The same, changed (may be left out)", elem_id="compare-after", height=120)
            lines = gr.Textbox("", label="Prompts, one per line; none: ten famous artworks", lines=3, max_length=50_000)
            scored = gr.CheckboxGroup(scores, value=scores, label="Scores")
            seen = gr.CheckboxGroup(encoders, value=encoders, label="Encoders")
            start = gr.Button("Compare", variant="primary", elem_id="compare-start")
        with gr.Column(scale=3, min_width=280):
            view = gr.HTML(views.message("Choose a picture, and press Compare."), elem_id="compare-view")

    def compare(before: str | None, after: str | None, text: str, scored: list[str], seen: list[str]) -> str:
        try:
            sent = uploads([path for path in (before, after) if path], served.limits)
            for upload in sent:
                upload.check(served.limits)
            prompts = tuple(prompts_of(text, served.limits)) if text.strip() else ARTWORKS
            chosen = [(name, encoder) for name in scores if name in scored for encoder in encoders if encoder in seen]
            if not chosen:
                raise UsageError("scores: choose a score and an encoder")
            rows = [_row(sent, prompts, *each) for each in chosen]
        except FoclipError as error:
            return views.message(str(error), failed=True)
        return views.compared([upload.name for upload in sent], rows)

    start.click(
        compare,
        [before, after, lines, scored, seen],
        view,
        concurrency_limit=1,
        concurrency_id="compare",
        trigger_mode="once",
        show_progress="minimal",
        api_visibility="private",
    )


def _row(sent: list[Upload], prompts: tuple[str, ...], name: str, encoder: str) -> dict[str, Any]:
    scorer = scorer_of(name, encoder)
    samples = [Sample(upload.name, partial(images.decode, upload.content, upload.name), prompts) for upload in sent]
    found = list(score(samples, scorer))
    failed = [each.reason for each in found if isinstance(each, Failure)]
    scores = None if failed else [each.score for each in found if not isinstance(each, Failure)]
    return {"score": name, "encoder": encoder, "scores": scores, "error": "; ".join(failed)}
