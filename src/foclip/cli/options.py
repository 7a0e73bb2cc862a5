"""Options that several commands share, and how the library's errors name them."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from foclip.errors import UsageError

#: Headings of the groups of options that come after the ones that most calls need.
ATTACK, DETECTION, DATA, RUN = "Attack", "Detection", "Data", "How it runs"


def path(text: str) -> Path:
    """A path that is not empty: an empty one would mean the current folder."""
    if not text:
        raise typer.BadParameter("an empty name")
    return Path(text)


Images = Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Picture files, or folders of them.", parser=path)]
PromptSet = Annotated[
    str | None,
    typer.Option(
        "--prompts", help="Prompt set: artworks, imagenet:N or a text file (- for standard input).", metavar="SET"
    ),
]
PromptTexts = Annotated[list[str] | None, typer.Option("--prompt", help="One prompt; may be repeated.", metavar="TEXT")]
Captions = Annotated[
    str | None,
    typer.Option(
        help="Captions of each picture: a CSV, TSV or JSONL file with image and caption, or sidecar (photo.txt).",
        metavar="FILE",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        help="Encoder (foclip models): mini, ARCHITECTURE/TAG, hf-hub:…, local-dir:… or a checkpoint.", metavar="NAME"
    ),
]
ScoreName = Annotated[str, typer.Option("--score", help="Score (foclip scores).", metavar="NAME")]
HardenedName = Annotated[
    str | None,
    typer.Option(
        help="Hardened encoder that scores each picture too; the gap tells.", show_default=False, metavar="NAME"
    ),
]
HardenedNames = Annotated[
    list[str] | None,
    typer.Option(
        "--hardened",
        help="Hardened encoder, may be repeated; default: those that come with the encoder, if any.",
        show_default=False,
        metavar="NAME",
        rich_help_panel=DETECTION,
    ),
]
DetectorFile = Annotated[
    Path | None,
    typer.Option(
        help="File of foclip calibrate; default: the one that comes with the model.", show_default=False, parser=path
    ),
]
Method = Annotated[
    Literal["combined", "rule"],
    typer.Option(help="The combined detector, or the paper's rule of two thresholds.", rich_help_panel=DETECTION),
]
Bound = Annotated[
    float | None, typer.Option(help="Bound on false alarms; default: the detector's own.", show_default=False)
]
ProbeSeed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        help="Randomise the probes (how far a shift, how much of a crop) with a number that only you know. "
        "An attacker who knows the detector can pass the usual probes.",
        show_default=False,
        rich_help_panel=DETECTION,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …", rich_help_panel=RUN)]
Engine = Annotated[Literal["local", "ray"], typer.Option(help="This machine's cores, or Ray's.", rich_help_panel=RUN)]
Address = Annotated[
    str | None,
    typer.Option(help="Address of a Ray cluster; default: this machine.", show_default=False, rich_help_panel=RUN),
]
Out = Annotated[Path, typer.Option("--out", help="Folder for results.", metavar="DIR", parser=path)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def number_or_auto(text: str) -> Any:
    """`auto`, or the number that is written there."""
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--lr {text}: write auto or a number") from None


def as_flags(message: str, command: Any) -> str:
    """A message of the library, which names its argument first (`min_psnr: …`), for the command line (`--min-psnr: …`).

    Args:
        message: The message.
        command: The command that was called.
    """
    argument = re.match(r"([a-z_]+): ", message)
    names = {option for parameter in command.params for option in parameter.opts} if command else set()
    flag = f"--{argument[1].replace('_', '-')}" if argument else ""
    return flag + message[argument.end(1) :] if argument and flag in names else message


def called(application: typer.Typer) -> Any:
    """The command that the command line names, if there is one."""
    group = typer.main.get_command(application)
    commands = getattr(group, "commands", {})
    return next((commands[word] for word in sys.argv[1:2] if word in commands), None)
