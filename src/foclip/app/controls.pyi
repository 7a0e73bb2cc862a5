"""Controls that the tabs share."""

from pathlib import Path
from typing import Any

import gradio as gr

#: Events of the page are no interface for programs.
QUIET: dict[str, Any] = {"api_visibility": "private"}

class Pictures(gr.File):
    """Where pictures are dropped. Unlike Gradio's own, it fetches nothing: a request may name an address for a file."""

    is_template = True  # in the browser it is Gradio's own

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Where Gradio keeps a file that was sent, which it has checked before."""
        if "://" in str(url_or_file_path):
            raise gr.Error("only files that were sent are read", print_exception=False)
        kept: str | None = await super().async_move_resource_to_block_cache(url_or_file_path)
        return kept
    from collections.abc import Callable, Sequence
    from typing import TYPE_CHECKING, Any, Literal

    from gradio.blocks import Block

    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component
