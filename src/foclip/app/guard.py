"""What of Gradio can be reached from outside: the routes that the page uses, in requests of bounded size."""

import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from foclip.app.address import Address
from foclip.app.limits import Limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Routes that the page uses. Gradio has more: files by their paths, proxies, histories, an interface for programs.
ROUTES = re.compile(
    r"/|/(config|theme\.css|login/?|logout|favicon\.ico|robots\.txt|gradio_api/(startup-events|login_check|upload"
    r"|upload_progress|run/predict|queue/join|queue/data|heartbeat/\w{1,64}|cancel))"
    r"|/(static|assets|svelte)/([\w-][\w.-]*/)*[\w-][\w.-]*"
)
UPLOAD = "/gradio_api/upload"
#: The page loads nothing from elsewhere, sends nothing elsewhere, and lies in no frame of others.
HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; frame-src 'self'; frame-ancestors 'self'; form-action 'self'; base-uri 'self'; "
    "object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """An ASGI application around Gradio's. What it refuses gets one line."""

    def __init__(self, application: Any, limits: Limits, address: Address, folder: Path) -> None:
        self._application, self._limits, self._address, self._folder = application, limits, address, folder

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # nothing else is spoken here
        prefix = self._address.root_path
        if prefix and (scope["path"] + "/").startswith(prefix + "/"):  # this proxy does not take it away
            path = scope["path"].removeprefix(prefix) or "/"
            scope = {**scope, "path": path, "raw_path": path.encode()}
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        most = self._most(scope)
        if refused := self._refused(scope, headers, most):
            await _answer(send, *refused)
            return
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            # The client of a request without a length learns nothing but that its connection is gone.
            return message if read <= most else {"type": "http.disconnect"}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name, value) for name, value in message["headers"] if name.decode().lower() not in HEADERS]
                message = {**message, "headers": own + [(n.encode(), v.encode()) for n, v in HEADERS.items()]}
            await send(message)

        await self._application(scope, bounded, with_headers)

    def _most(self, scope: MutableMapping[str, Any]) -> int:
        """Bytes that the body of a request may have."""
        limits = self._limits
        return limits.file_bytes * limits.pictures if scope["path"] == UPLOAD else limits.request_bytes

    def _refused(self, scope: MutableMapping[str, Any], headers: dict[bytes, str], most: int) -> tuple[int, str] | None:
        """Why a request is refused, with its status; None if it is not."""
        host = re.sub(r":\d+$", "", headers.get(b"host", "")).strip("[]")
        if self._address.names and host not in self._address.names:
            return 421, "this page is not known by that name"
        if not ROUTES.fullmatch(scope["path"]):
            return 404, "there is no such page"
        length = headers.get(b"content-length", "0")
        if not length.isdecimal() or int(length) > most:
            return 413, f"more than {most // 2**20} MB"
        if scope["path"] == UPLOAD and _size(self._folder) + int(length) > self._limits.stored_bytes:
            return 503, "too many pictures were sent; come back in a few minutes"
        return None


def _size(folder: Path) -> int:
    """Bytes of the files in a folder. Files and folders may vanish meanwhile, which `Path.rglob` does not forgive."""
    total = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(inside, name).stat().st_size
    return total


async def _answer(send: Send, status: int, line: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(line)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": line.encode()})
