"""Options that several commands share, and how library errors name them."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from foclip.errors import UsageError


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
        help="Each picture with its own: a CSV, TSV or JSONL file with image and caption, or sidecar (photo.txt).",
        metavar="FILE",
    ),
]
Model = Annotated[
    str, typer.Option(help="Encoder: mini, ARCHITECTURE/TAG, hf-hub:…, local-dir:… or a checkpoint.", metavar="NAME")
]
ScoreName = Annotated[str, typer.Option("--score", help="Score over the encoder: foclip scores.", metavar="NAME")]
Twin = Annotated[
    str | None,
    typer.Option(
        help="Hardened twin of the encoder, which scores each picture beside it.", show_default=False, metavar="NAME"
    ),
]
HardenedScores = Annotated[
    list[str] | None,
    typer.Option(
        "--twin",
        help="Hardened twin of the encoder, may be repeated; default: those that come with it, if any.",
        show_default=False,
        metavar="NAME",
    ),
]
DetectorFile = Annotated[
    Path | None,
    typer.Option(
        help="File of foclip calibrate; default: the one that comes with the model.", show_default=False, parser=path
    ),
]
DecideBy = Annotated[
    Literal["combined", "rule"], typer.Option(help="The combined detector, or the paper's rule of two thresholds.")
]
Bound = Annotated[
    float | None, typer.Option(help="Bound on false alarms; default: the detector's own.", show_default=False)
]
Draw = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="A number that only you know, with which looks (how far a shift, how much of a crop) are drawn: who knows "
        "the detector itself passes the usual ones.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]
Engine = Annotated[Literal["local", "ray"], typer.Option(help="This machine's cores, or Ray's.")]
Address = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster; default: this machine.", show_default=False)
]
Out = Annotated[Path, typer.Option("--out", help="Folder for results.", metavar="DIR", parser=path)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]


def prompts_of(prompt_set: str | None, texts: list[str] | None) -> list[str] | None:
    """The prompts of --prompts and --prompt; None if neither was given."""
    from foclip.data import prompts

    if prompt_set == "-":
        texts, prompt_set = [line for line in sys.stdin.read().splitlines() if line.strip()] + (texts or []), None
    return None if prompt_set is None and not texts else prompts.resolve(prompt_set, texts or [])


def check_engine(engine: str, address: str | None) -> None:
    """Refuse an address that nothing would be done with."""
    if address is not None and engine != "ray":
        raise UsageError("--address: for --engine ray")


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


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
