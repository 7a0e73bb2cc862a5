"""The command line: each command reads its options, calls the library and prints (exit codes: docs/architecture.md).

What imports torch is imported inside the commands, after all that can be checked without it (`options.check`).
"""

import errno
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import cache
from typing import Annotated, Any

import typer

from foclip import __version__
from foclip.cli import console
from foclip.cli.defending import calibrate, harden
from foclip.cli.fooling import demo, fool
from foclip.cli.progress import answered
from foclip.cli.reading import detect, models, score, scores
from foclip.cli.reproducing import reproduce
from foclip.cli.scanning import scan
from foclip.cli.serving import app as serve
from foclip.errors import (
    CheckpointWarning,
    CompileWarning,
    FoclipError,
    OutputError,
    PromptTruncationWarning,
    SourceError,
)

app = typer.Typer(
    name="foclip",
    help="Can a CLIP-based score be trusted? Fool it, measure it, catch what fooled it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS: list[Callable[..., None]] = [
    *(fool, score, detect, scan, calibrate, harden, reproduce, models, scores, demo),
    serve,
]
for command in COMMANDS:
    app.command(no_args_is_help=command not in (models, scores, demo, serve))(command)

#: Errors of disks and limits, which are no faults of ours.
MACHINES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
#: What typer raises for a call that it cannot parse; newer versions bring their own click, so it is found by name.
WrongCall: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _version(asked: bool) -> None:
    if asked:
        console.stdout.print(f"foclip {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@cache
def _group() -> Any:
    """All commands, as typer makes them of their functions."""
    return typer.main.get_command(app)


def main() -> None:
    """Run the command line and exit with its code."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # fewer parameters on purpose
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names and prompts may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    with answered():
        code = _run() if sys.stdout else _refuse("standard output is closed")
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        code = _unwritten(error)
    sys.exit(code)


def _run() -> int:
    """The exit code of what the command line asks for."""
    try:
        with redirect_stdout(console.Stdout(sys.stdout)):
            return int(_group()(standalone_mode=False) or 0)
    except WrongCall as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            return 2
        return _refuse(error.format_message())
    except (OutputError, SourceError) as error:
        console.say(f"failed: {error}")
        return 1
    except FoclipError as error:
        return _refuse(_with_flag(str(error)))
    except (KeyboardInterrupt, typer.Abort):
        console.say("interrupted")
        return 130
    except OSError as error:
        if error.filename == console.STDOUT:
            return _unwritten(error)
        if error.errno not in MACHINES:
            return _fault(error)
        console.say(f"failed: {f'{error.filename}: ' if error.filename else ''}{os.strerror(error.errno)}")
        return 1
    except Exception as error:
        return _fault(error)


def _with_flag(message: str) -> str:
    """A message of the library, which begins with its argument (`min_psnr: …`), with the option (`--min-psnr: …`)."""
    argument, _, rest = message.partition(": ")
    flag = f"--{argument.replace('_', '-')}"
    commands = _group().commands
    command = next((commands[word] for word in sys.argv[1:2] if word in commands), None)
    known = command is not None and any(flag in parameter.opts for parameter in command.params)
    return f"{flag}: {rest}" if known else message


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
    told = f"foclip {__version__}, arguments {sys.argv[1:]!r}\n{''.join(traceback.format_exception(error))}"
    where = "it"
    with suppress(OSError):
        with tempfile.NamedTemporaryFile(
            "w", prefix="foclip-fault-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(told)
        where = file.name
    console.say(f"error: a fault of foclip ({type(error).__name__}: {error}); please report {where}")
    return 70


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, (CheckpointWarning, CompileWarning, PromptTruncationWarning)):
        console.say(f"note: {message}")
