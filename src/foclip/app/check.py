"""The tab *Check*: were these pictures tampered with?"""

from collections.abc import Iterator
from functools import partial

import gradio as gr
from PIL import Image

from foclip.app import views
from foclip.app.limits import Limits, Upload, prompts_of, uploads
from foclip.app.served import Served
from foclip.core.detecting import detect
from foclip.data import images
from foclip.data.samples import Sample
from foclip.detection import Detection
from foclip.errors import FoclipError, ImageError, UsageError
from foclip.models.scorer import EmbeddingScorer
from foclip.outcome import Failure, Outcome
from foclip.reports import detected


def tab(served: Served) -> None:
    """Lay the tab out."""
    detector, scorer = served.detector, served.scorer
    if detector is None or not isinstance(scorer, EmbeddingScorer):
        gr.HTML(views.message(f"No detector comes with {scorer.model}; foclip calibrate makes one."))
        return
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            pictures = gr.File(label="Pictures", file_count="multiple", elem_id="check-pictures", height=160)
            captions = gr.Textbox(
                "",
                label="Captions: none, one for all pictures, or one per line in their order",
                lines=3,
                max_length=50_000,
                elem_id="check-captions",
            )
            start = gr.Button("Check", variant="primary", elem_id="check-start")
        with gr.Column(scale=3, min_width=280):
            view = gr.HTML(views.message("Choose pictures, and press Check."), elem_id="check-view")

    def check(paths: list[str] | None, text: str) -> Iterator[str]:
        try:
            sent = uploads(paths or [], served.limits)
            samples = _samples(sent, text, served.limits)
            found: Outcome[Detection] = Outcome([], [])
            for number, verdict in enumerate(detect(samples, detector, scorer), start=1):
                if isinstance(verdict, Failure):
                    found.failures.append(verdict)
                else:
                    found.results.append(verdict)
                yield views.message(f"{number} of {len(sent)} pictures")
            contents = {upload.name: upload.content for upload in sent}
            page = detected.page(found, scorer, detector, read=lambda name: images.decode(contents[name], name))
            yield views.checked(_summary(found), page, detected.table(found))
        except FoclipError as error:
            yield views.message(str(error), failed=True)

    start.click(
        check,
        [pictures, captions],
        view,
        concurrency_limit=1,
        concurrency_id="check",
        trigger_mode="once",
        show_progress="minimal",
        api_visibility="private",
    )


def _samples(sent: list[Upload], text: str, limits: Limits) -> list[Sample | Failure]:
    captions = prompts_of(text, limits) if text.strip() else []
    if len(captions) not in (0, 1, len(sent)):
        raise UsageError(f"captions: {len(captions)} lines for {len(sent)} pictures; give none, one, or one each")
    each = [tuple(captions[:1])] * len(sent) if len(captions) < 2 else [(caption,) for caption in captions]
    samples: list[Sample | Failure] = []
    for upload, prompts in zip(sent, each, strict=True):
        try:
            upload.check(limits)
            samples.append(Sample(upload.name, partial(_decode, upload), prompts))
        except ImageError as error:
            samples.append(Failure(upload.name, str(error)))
    return samples


def _decode(upload: Upload, admit: images.Admit) -> Image.Image:
    return images.decode(upload.content, upload.name, admit)


def _summary(found: Outcome[Detection]) -> str:
    tampered = [each.image for each in found if each.tampered]
    told = f"{', '.join(tampered)}: tampered. " if tampered else ""
    failed = f", {len(found.failures)} could not be read" if found.failures else ""
    return f"{told}{len(tampered)} of {len(found)} pictures tampered{failed}."
