"""The tab *Fool*: a picture climbs while one looks."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from foclip import demo
from foclip.app import views
from foclip.app.climbing import Climb
from foclip.app.limits import Upload, prompts_of, uploads
from foclip.app.served import Served
from foclip.attacks import AttackPlan, default_plan
from foclip.data.prompts import ARTWORKS
from foclip.errors import FoclipError, UsageError

#: Photos to begin with, by what the page calls them.
PHOTOS = {path.stem: path for path in demo.photos()}
PAINTINGS, OWN = "ten famous artworks", "my own"
#: What may be seen, and the settings of the plan that say so.
UNSEEN, DECIBELS = "invisible", "35 dB, as in the paper"
BUDGETS = {UNSEEN: {}, DECIBELS: {"min_psnr": 35.0}}
#: Seconds between two looks at a climb of which nothing new is known.
LOOK = 0.5


def tab(served: Served) -> None:
    """Lay the tab out."""
    limits = served.limits
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            picture = gr.File(label="A picture", elem_id="fool-picture", height=120)
            photo = gr.Radio(list(PHOTOS), value=next(iter(PHOTOS)), label="or one of these photos")
            asked = gr.Radio([PAINTINGS, OWN], value=PAINTINGS, label="Prompts that it is to score high for")
            lines = gr.Textbox(
                "",
                label="My own prompts, one per line",
                lines=3,
                max_length=50_000,
                visible=False,
                elem_id="fool-prompts",
            )
            seen = gr.Radio([*BUDGETS, OWN], value=UNSEEN, label="What may be seen of the change")
            budget = gr.Textbox(
                "", label="My own budget", placeholder="ssim:0.98", max_length=60, visible=False, elem_id="fool-budget"
            )
            steps = gr.Slider(1, limits.steps, value=70, step=1, label="Steps")
            with gr.Row():
                start = gr.Button("Fool it", variant="primary", elem_id="fool-start")
                stop = gr.Button("Stop", elem_id="fool-stop")
        with gr.Column(scale=3, min_width=280):
            view = gr.HTML(views.message("Choose a picture, and press Fool it."), elem_id="fool-view")

    def climb(
        path: str | None, photo: str, asked: str, lines: str, seen: str, budget: str, steps: float, request: gr.Request
    ) -> Iterator[str]:
        try:
            upload = _chosen(path, photo, served)
            if served.scorer.info.prompts == "none":
                wanted = []
            else:
                wanted = list(ARTWORKS) if asked == PAINTINGS else prompts_of(lines, limits)
            plan = plan_of(served, seen, budget, steps)
        except FoclipError as error:
            yield views.message(str(error), failed=True)
            return
        session = request.session_hash or ""
        climb = served.climbs.start(session, Climb(upload, wanted, served.scorer, plan, limits))
        try:
            yield views.climbing(climb)
            while climb.is_alive():
                if climb.changed.wait(LOOK):
                    climb.changed.clear()
                    yield views.climbing(climb)
            yield views.climbed(climb.climbed) if climb.climbed else views.message(climb.error or "", failed=True)
        finally:  # the page may have been closed
            served.climbs.end(session, climb)

    def halt(request: gr.Request) -> None:
        served.climbs.stop(request.session_hash or "")

    for choice, own in ((asked, lines), (seen, budget)):
        choice.change(
            partial(_shown_for, OWN), choice, own, queue=False, show_progress="hidden", api_visibility="private"
        )
    start.click(
        climb,
        [picture, photo, asked, lines, seen, budget, steps],
        view,
        concurrency_limit=limits.climbs,
        concurrency_id="climb",
        trigger_mode="once",
        show_progress="hidden",
        api_visibility="private",
    )
    stop.click(halt, queue=False, api_visibility="private")


def _shown_for(wanted: str, chosen: str) -> Any:
    return gr.update(visible=chosen == wanted)


def plan_of(served: Served, seen: str, budget: str, steps: float) -> AttackPlan:
    """The plan that `foclip fool` makes of the same settings; a `UsageError` if one is none of those offered."""
    if not 1 <= steps <= served.limits.steps:
        raise UsageError(f"steps: {steps:g} is no number from 1 to {served.limits.steps}")
    settings = BUDGETS.get(seen, {}) if seen != OWN else {"budgets": budget.strip()}
    plan = default_plan(served.scorer, steps=int(steps), **settings)
    plan.check(served.scorer)
    return plan


def _chosen(path: str | None, photo: str, served: Served) -> Upload:
    """The picture that was sent, else the photo that was chosen by name."""
    if path:
        (upload,) = uploads([path], served.limits)
    elif photo in PHOTOS:
        upload = Upload(PHOTOS[photo].name, PHOTOS[photo].read_bytes())
    else:
        raise UsageError("picture: choose one first")
    upload.check(served.limits)
    return upload
