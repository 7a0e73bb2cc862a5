"""The page on a network, and where the files lie that visitors send."""

import ctypes
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from foclip.app.address import Address
from foclip.app.guard import Guard
from foclip.app.served import Served

#: Of glibc's mallopt: the most heaps of a process.
M_ARENA_MAX = -8


class Serving:
    """The page as an ASGI application, as long as the block ``with Serving(…) as application`` lasts.

    What visitors send lies in a folder that only this user can read, and that is gone at the end.
    """

    def __init__(self, served: Served, address: Address) -> None:
        self._served, self._address = served, address

    def __enter__(self) -> Any:
        self._folder = Path(tempfile.mkdtemp(prefix="foclip-app-"))
        # Gradio reads these when it is imported: no telemetry, no look for updates, and files nowhere else.
        os.environ.update(
            GRADIO_ANALYTICS_ENABLED="False",
            GRADIO_TEMP_DIR=str(self._folder),
            GRADIO_RUN_HISTORY="False",
            GRADIO_SSR_MODE="False",
            HF_HUB_DISABLE_TELEMETRY="1",
        )
        import gradio
        from fastapi import FastAPI

        from foclip.app.page import CSS, THEME, build

        application = gradio.mount_gradio_app(
            FastAPI(openapi_url=None),
            build(self._served),
            "/",
            footer_links=[],
            run_history=False,
            auth=self._address.auth,
            root_path=self._address.root_path or None,
            allowed_paths=[],
            show_error=False,
            max_file_size=self._served.limits.file_bytes,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=THEME,
            css=CSS,
        )
        return Guard(application, self._served.limits, self._address, self._folder)

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            shutil.rmtree(self._folder)


def serve(served: Served, address: Address) -> None:
    """Serve the page until Ctrl-C."""
    import uvicorn

    # Climbs are threads that come and go. glibc would give each a heap of its own, and memory would grow with visitors.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)
    with Serving(served, address) as application:
        uvicorn.run(
            application,
            host=address.host,
            port=address.port,
            log_level="warning",
            server_header=False,
            proxy_headers=address.behind_proxy is not None,
            timeout_graceful_shutdown=2,
        )
