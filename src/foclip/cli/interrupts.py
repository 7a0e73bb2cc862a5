"""Ctrl-C: answered within a second, and never lost."""

import _thread
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from foclip.cli import console

#: Seconds that work has to stop before a line says that it is about to.
PATIENCE = 0.8


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
