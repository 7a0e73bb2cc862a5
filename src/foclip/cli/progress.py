"""What a command says while it works: bars, or lines such as `[1:20] fooling: 3 of 50`; and how it answers Ctrl-C."""

import _thread
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from foclip.cli import console
from foclip.models import registry
from foclip.outcome import Advance, Progress

if TYPE_CHECKING:
    from foclip.models.scorer import Scorer

#: Seconds between plain lines.
EVERY = 10.0
#: Seconds that work has to stop after Ctrl-C before a line says that it is about to.
PATIENCE = 0.8
_START = time.monotonic()


def bars() -> AbstractContextManager[Progress]:
    """What shows the stages of a work: its bars on a terminal, plain lines elsewhere."""
    return _bars() if console.stderr.is_terminal else _lines()


@contextmanager
def resumable(kept: str) -> Iterator[Progress]:
    """`bars` around work that is kept when Ctrl-C ends it with 130, and goes on when the command is given again."""
    try:
        with bars() as progress:
            yield progress
    except KeyboardInterrupt:
        console.say(f"interrupted; {kept}, and the same command goes on from there")
        raise typer.Exit(130) from None


def loading(name: str) -> AbstractContextManager[object]:
    """Says at once that an encoder is being loaded. Torch should be imported inside: that takes seconds."""
    if not console.stderr.is_terminal:
        _say(f"loading {name}")
    return console.stderr.status(Text(f"loading {name}"))


def load(model: str, score: str, device: str) -> "Scorer":
    """A score over an encoder by their names."""
    with loading(model if score == registry.DEFAULT else score):  # a score may have a model of its own
        from foclip.models import light

        if registry.by_open_clip(score, model):  # others may need all of open_clip, or nothing of it
            light.import_open_clip()
        return registry.resolve(model, score, device)


def load_several(scores: Mapping[str, tuple[str, str]], device: str) -> "dict[str, Scorer]":
    """Scores by what they are called, given the names of each and of its model; an encoder is loaded once."""
    found: dict[str, Scorer] = {}
    encoders: dict[str, Any] = {}
    for called, (name, model) in scores.items():
        if model in encoders:
            found[called] = registry.load(name, encoders[model], device=device)
        else:
            found[called] = load(model, name, device)
        scorer: Any = found[called]
        if hasattr(scorer, "encoder"):  # a scorer need not have one
            encoders[model] = getattr(scorer, "plain", scorer.encoder)
    return found


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[note]}", TimeRemainingColumn())
    shown = Bars(*columns, console=console.stderr)

    def progress(text: str, total: int) -> Advance:
        shown.start()  # with the first stage: a wrong call shows no bar
        task = shown.add_task(text, total=total, note="")
        return lambda done, note="": shown.update(task, completed=done, note=note)

    try:
        yield progress
    finally:
        if shown.tasks:
            shown.stop()


@contextmanager
def _lines() -> Iterator[Progress]:
    """A line for each stage that is at work every `EVERY` seconds, and one when it ends."""
    working: dict[object, str] = {}
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(EVERY):
            for text in list(working.values()):
                _say(text)

    def progress(text: str, total: int) -> Advance:
        stage = object()
        working[stage] = f"{text}: 0 of {total}"

        def advance(done: float, note: str = "") -> None:
            if stage in working:
                working[stage] = f"{text}: {int(done)} of {total}" + (f", {note}" if note else "")
                if done >= total:
                    _say(working.pop(stage))

        return advance

    threading.Thread(target=report, daemon=True).start()
    try:
        yield progress
    finally:
        ended.set()


def _say(text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - _START), 60)
    console.say(f"[{minutes}:{seconds:02}] {text}")


@contextmanager
def answered() -> Iterator[None]:
    """Answer Ctrl-C while the main thread is busy, as in one step on a large picture.

    Python raises KeyboardInterrupt only when its main thread is back from compiled code. Until then another
    thread, which the signal wakes, says that it was heard; from there on, a second Ctrl-C ends the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals cannot be watched from here
        return
    heard, wake = socket.socketpair()
    wake.setblocking(False)
    before = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    hook, sys.unraisablehook = sys.unraisablehook, _again
    ended = threading.Event()
    threading.Thread(target=_watch, args=(heard, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        sys.unraisablehook = hook
        signal.set_wakeup_fd(before)
        wake.close()


def _watch(heard: socket.socket, ended: threading.Event) -> None:
    with heard:
        if not _pressed(heard) or ended.wait(PATIENCE):
            return
        console.say("stopping after the step that is under way; press Ctrl-C again to end at once")
        heard.setblocking(False)
        with suppress(BlockingIOError):  # pressed before that line could be read
            heard.recv(4096)
        heard.setblocking(True)
        if _pressed(heard):
            os._exit(130)


def _pressed(heard: socket.socket) -> bool:
    """Wait for Ctrl-C; False if the command ends first."""
    while numbers := heard.recv(1):
        if numbers[0] == signal.SIGINT:
            return True
    return False


def _again(ignored: Any) -> None:
    """Python drops a KeyboardInterrupt that comes in a finaliser: raise it again, a moment later."""
    if isinstance(ignored.exc_value, KeyboardInterrupt):
        threading.Timer(0.01, _thread.interrupt_main).start()  # not at once, which would be in the finaliser again
    else:
        sys.__unraisablehook__(ignored)
