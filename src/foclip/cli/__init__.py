"""The command line: parses, calls, prints; one module per room. Heavy imports happen inside the commands.

Exit codes: 0 all done, 1 some inputs failed (listed; the rest is done), a result could not be written or a source is
gone, 2 wrong call, 130 interrupted (what is finished is kept), 70 a fault of ours (one line, and a file with the
traceback).
"""

import _thread
import math
import os
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from foclip import __version__
from foclip.cli import console, options
from foclip.cli.fool import demo, fool
from foclip.cli.harden import harden
from foclip.cli.judge import calibrate, detect, score
from foclip.cli.lists import models, scores
from foclip.cli.reproduce import reproduce
from foclip.cli.scan import scan
from foclip.errors import CompileWarning, FoclipError, OutputError, PromptTruncationWarning, SourceError

app = typer.Typer(
    name="foclip",
    help="Can a CLIP-based score be trusted? Fool it, measure it, catch what fooled it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS: tuple[Callable[..., None], ...] = (
    fool,
    score,
    detect,
    scan,
    calibrate,
    harden,
    reproduce,
    models,
    scores,
    demo,
)
for command in COMMANDS:
    app.command(no_args_is_help=command not in (models, scores, demo))(command)

#: What typer raises for a call that it cannot parse; newer versions bring their own click, so it is found by name.
WrongCall: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _version(asked: bool) -> None:
    if asked:
        console.stdout.print(f"foclip {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit with its code."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # fewer parameters on purpose
    sys.unraisablehook = _interrupt_again
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names and prompts may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    _running.set()
    try:
        code = _run() if sys.stdout else _refuse("standard output is closed")
    finally:
        _running.clear()
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        code = _unwritten(error)
    sys.exit(code)


def _run() -> int:
    """The exit code of what the command line asks for."""
    try:
        return int(app(standalone_mode=False) or 0)
    except WrongCall as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            return 2
        return _refuse(error.format_message())
    except (OutputError, SourceError) as error:
        console.say(f"failed: {error}")
        return 1
    except FoclipError as error:
        return _refuse(options.as_flags(str(error), options.called(app)))
    except (KeyboardInterrupt, typer.Abort):
        console.say("interrupted")
        return 130
    except Exception as error:
        return _unwritten(error) if isinstance(error, OSError) and error.filename is None else _fault(error)


def _refuse(message: str) -> int:
    """One line, and where JSON was asked for, one document that says the same."""
    console.say(f"error: {message}")
    if "--json" in sys.argv and sys.stdout:
        console.print_json({"error": message})
    return 2


def _unwritten(error: OSError) -> int:
    """Standard output takes no more: nothing further is written there, not even when Python ends."""
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 (stays open until the end)
    if not isinstance(error, BrokenPipeError):  # a reader that has seen enough is no error
        console.say(f"error: standard output: {error.strerror or error}")
    return 1


def _fault(error: Exception) -> int:
    """A fault of ours: one line, and a file that tells the developers more."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="foclip-fault-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(f"foclip {__version__}, arguments {sys.argv[1:]!r}\n{''.join(traceback.format_exception(error))}")
    console.say(f"error: a fault of foclip ({type(error).__name__}: {error}); please report {Path(file.name)}")
    return 70


#: Whether a command is running, which an interrupt may end; and when one was last asked for from another thread.
_running = threading.Event()
_asked = -math.inf
#: Seconds until a finaliser on another thread, which may run at every step, is heard again: once may have been lost.
AGAIN = 0.25


def _interrupt_again(ignored: Any) -> None:
    """Ctrl-C that came where Python can raise nothing, in a finaliser, comes again a moment later."""
    global _asked
    if not isinstance(ignored.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    if threading.current_thread() is not threading.main_thread():
        if time.monotonic() - _asked < AGAIN:
            return
        _asked = time.monotonic()
    threading.Timer(0.01, _interrupt).start()  # not at once, which would be here again


def _interrupt() -> None:
    if _running.is_set():  # what comes too late is no business of whoever called us
        _thread.interrupt_main()


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, (CompileWarning, PromptTruncationWarning)):
        console.say(f"note: {message}")
