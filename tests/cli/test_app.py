"""What `foclip app` refuses before anything is loaded. What it serves is tested in `tests/app` and `tests/browser`."""

from importlib.util import find_spec
from typing import Any

import pytest
from conftest import Run

from foclip.cli import serving


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: find_spec("foclip"))


def test_without_the_extra_one_line_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    code, text, errors = run("app")
    assert (code, text) == (2, "")
    assert errors == 'error: app: this needs Gradio; pip install "foclip[app]"\n'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "--host: 0.0.0.0 can be reached by others; give --auth USER:PASSWORD"),
        (["--host", "192.168.1.2", "--root-path", "/tool"], "can be reached by others"),
        (["--auth", "me"], "--auth: write USER:PASSWORD"),
        (["--auth", ":secret"], "--auth: write USER:PASSWORD"),
        (["--root-path", "tool"], "--root-path: tool does not begin with /"),
        (["--port", "0"], "--port"),
        (["--data", "nowhere"], "--data: nowhere: no such file or folder"),
        (["--model", "nosuch"], "nosuch"),
    ],
)
def test_wrong_calls_are_refused(run: Run, installed: None, arguments: list[Any], said: str) -> None:
    code, text, errors = run("app", *arguments)
    assert (code, text) == (2, "")
    assert said in errors
    assert errors.count("\n") == 1
