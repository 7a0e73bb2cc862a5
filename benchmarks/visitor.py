"""A visitor of the page without a browser: speaks with Gradio as its JavaScript does."""

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from foclip.app.address import Address
from foclip.app.served import Served
from foclip.app.server import Serving


@contextmanager
def serving(served: Served, **address: Any) -> Iterator[str]:
    """The URL of the page, which is served as long as the block lasts."""
    where = Address(**{"port": 0} | address)
    with Serving(served, where) as application:
        server = uvicorn.Server(uvicorn.Config(application, where.host, 0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


class Visitor:
    """One session. Controls are named by the `elem_id` or the label that the page gives them."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=120, trust_env=False)
        self.session = secrets.token_hex(6)
        self.config = self.client.get("/config").json()
        self._components = {each["id"]: each for each in self.config["components"]}

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """Send a picture; the value of a file control."""
        answer = self.client.post("/gradio_api/upload", files={"files": (name, content)})
        answer.raise_for_status()
        return {"path": answer.json()[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def join(self, button: str, **values: Any) -> str:
        """Press a button with values of controls instead of their defaults; the number of the event."""
        (pressed,) = [number for number, each in self._components.items() if button in _names(each)]
        (event,) = [each for each in self.config["dependencies"] if [pressed, "click"] in each["targets"]]
        data = []
        for number in event["inputs"]:
            props = self._components[number]["props"]
            own = [value for name, value in values.items() if name in _names(self._components[number])]
            data.append(own[0] if own else props.get("value"))
        body = {"data": data, "fn_index": event["id"], "session_hash": self.session, "trigger_id": pressed}
        place = "queue/join" if event["queue"] is not False else "run/predict"
        answer = self.client.post(f"/gradio_api/{place}", json=body)
        answer.raise_for_status()
        return str(answer.json().get("event_id"))

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the server says to this session, until its events are done."""
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    yield message
                    if message["msg"] == "close_stream":
                        return

    def press(self, button: str, **values: Any) -> str:
        """Press a button and wait; what the page shows in the end."""
        self.join(button, **values)
        return self.shown()

    def shown(self) -> str:
        """What the page shows at the end of the event that was joined."""
        done = [message for message in self.messages() if message["msg"] == "process_completed"]
        assert done, "the event never ended"
        assert done[-1]["success"], done[-1]
        return str(done[-1]["output"]["data"][0])


def _names(component: dict[str, Any]) -> tuple[Any, ...]:
    return component["props"].get("elem_id"), component["props"].get("label")
