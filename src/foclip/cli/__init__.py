"""The command line: parses, calls, prints; one module per room. Heavy imports happen inside the commands.

Exit codes: 0 all done, 1 some inputs failed (listed; the rest is done), 2 wrong
call, 130 interrupted (what is finished is kept).
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import typer

from foclip.cli import console, options
from foclip.cli.fool import demo, fool
from foclip.cli.judge import calibrate, detect, score
from foclip.cli.lists import models, scores
from foclip.cli.reproduce import reproduce
from foclip.errors import FoclipError, PromptTruncationWarning

app = typer.Typer(
    name="foclip",
    help="Can a CLIP-based score be trusted? Fool it, measure it, catch what fooled it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS: tuple[Callable[..., None], ...] = (fool, score, detect, calibrate, reproduce, models, scores, demo)
for command in COMMANDS:
    app.command(no_args_is_help=command not in (models, scores, demo))(command)

#: What typer raises for a call that it cannot parse; newer versions bring their own click, so it is found by name.
WrongCall: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, PromptTruncationWarning):
        console.say(f"note: {message}")


def _refuse(message: str) -> None:
    """One line, and where JSON was asked for, one document that says the same."""
    console.say(f"error: {message}")
    if "--json" in sys.argv:
        console.print_json({"error": message})


def main() -> None:
    """Run the command line and exit with its code."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # fewer parameters on purpose
    try:
        sys.exit(app(standalone_mode=False))
    except WrongCall as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            _refuse(error.format_message())
        sys.exit(2)
    except FoclipError as error:
        _refuse(options.as_flags(str(error), options.called(app)))
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        console.say("interrupted")
        sys.exit(130)
