"""The tab *Data set*: what the scan of the folder or table found that the page was started with."""

import gradio as gr

from foclip.app import views
from foclip.app.served import Served

#: Seconds between two looks at a scan that is under way.
LOOK = 2.0


def tab(served: Served) -> None:
    """Lay the tab out."""
    scan = served.scan
    if scan is None:
        gr.HTML(views.message("Start the page with foclip app --data FOLDER to look at a data set here."))
        return
    view = gr.HTML(lambda: views.scanned(scan), elem_id="data-view")
    timer = gr.Timer(LOOK)
    timer.tick(
        lambda: (views.scanned(scan), gr.Timer(active=scan.is_alive())),
        None,
        [view, timer],
        show_progress="hidden",
        api_visibility="private",
        queue=False,
    )
