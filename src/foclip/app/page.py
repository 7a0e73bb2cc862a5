"""The page: four tabs on what is served."""

from pathlib import Path

import gradio as gr

from foclip.app import check, compare, data, fool
from foclip.app.served import Served

CSS = (Path(__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
#: Fonts of the visitor's own machine: Gradio's themes would fetch others.
THEME = gr.themes.Default(primary_hue="red", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
TABS = {"Fool": fool.tab, "Check": check.tab, "Compare": compare.tab, "Data set": data.tab}


def build(served: Served) -> gr.Blocks:
    """The page, which `foclip.app.server` puts on the network."""
    kept = served.limits.kept_seconds
    with gr.Blocks(title="FoCLIP", analytics_enabled=False, delete_cache=(60, kept)) as blocks:
        gr.HTML("<h1>Can a CLIP-based score be trusted?</h1>")
        for name, tab in TABS.items():
            with gr.Tab(name):
                tab(served)

        def closed(request: gr.Request) -> None:
            served.climbs.stop(request.session_hash or "")

        blocks.unload(closed)
    return blocks.queue(max_size=served.limits.waiting, api_open=False)
