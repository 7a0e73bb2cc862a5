"""The page: four tabs on what is served."""

import os
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
    with gr.Blocks(title="FoCLIP", analytics_enabled=False, delete_cache=(min(60, kept), kept)) as blocks:
        gr.HTML("<h1>Can a CLIP-based score be trusted?</h1>")
        for name, tab in TABS.items():
            with gr.Tab(name):
                tab(served)

        def closed(request: gr.Request) -> None:
            served.climbs.stop(request.session_hash or "")

        blocks.unload(closed)
    blocks.state_session_capacity = served.limits.sessions
    for block in blocks.blocks.values():
        block.async_move_resource_to_block_cache = _sent
    return blocks.queue(max_size=served.limits.waiting, api_open=False)


async def _sent(path: str | Path | None) -> str | None:
    """Where a file is that a request names: only files that visitors sent are opened, whatever Gradio itself allows."""
    if path is not None and not Path(path).resolve().is_relative_to(Path(os.environ["GRADIO_TEMP_DIR"]).resolve()):
        raise gr.Error("only files that were sent are read", print_exception=False)
    return None if path is None else str(path)
