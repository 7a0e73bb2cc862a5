"""Options that several commands share, and what is wrong with them as far as it can be told without importing torch."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from foclip import files
from foclip.cli import console
from foclip.data import prompts as prompt_sets
from foclip.errors import PromptError, UsageError
from foclip.models import catalogue, embedded, registry, remote
from foclip.outcome import Failure, Outcome

#: Headings of the groups of options that come after the ones that most calls need.
ATTACK, DETECTION, TRAINING, DATA, RUN = "Attack", "Detection", "Training", "Data", "How it runs"


def option(default: Any, help: str, panel: str | None = None, *, name: str | None = None, **more: Any) -> Any:
    """`typer.Option` in short; `...` stands for no default, and a name is needed where it is not the parameter's."""
    if default is False:
        more["metavar"] = ""  # a flag takes no value, so its help names no type
    more = {"callback": _finite} | more
    return typer.Option(default, *([name] if name else []), help=help, rich_help_panel=panel, **more)


def _finite(value: Any) -> Any:
    """A value that is not NaN and not infinite: as a limit, one of these would let everything pass, or nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not finite")
    return value


def path(text: str) -> Path:
    """A path that is not empty: an empty one would mean the current folder."""
    if not text:
        raise typer.BadParameter("an empty name")
    return Path(text)


Images = Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Picture files, or folders of them.", parser=path)]
PromptSet = Annotated[
    str | None, option(..., "Prompt set: artworks, imagenet:N or a text file (- for standard input).", metavar="SET")
]
PromptTexts = Annotated[list[str] | None, option(..., "One prompt; may be repeated.", metavar="TEXT")]
Captions = Annotated[
    str | None,
    option(..., "CSV, TSV or JSONL with image and caption, or sidecar: photo.txt beside photo.jpg.", metavar="FILE"),
]
Model = Annotated[
    str,
    option(
        ...,
        "Encoder: a name that foclip models lists, ORGANISATION/NAME or a folder of transformers', hf-hub:…, "
        "local-dir:…, a checkpoint file, or blurred:NAME.",
        metavar="NAME",
    ),
]
ScoreName = Annotated[str, option(..., "Score: a name that foclip scores lists.", metavar="NAME")]
HardenedNames = Annotated[
    list[str] | None,
    option(
        ..., "Hardened encoder to ask too; may be repeated. Default: those of the model.", DETECTION, metavar="NAME"
    ),
]
DetectorFile = Annotated[
    Path | None,
    option(
        ...,
        "File that foclip calibrate wrote. Default: the one that comes with the model, or else the pictures judge each "
        "other.",
        parser=path,
    ),
]
Method = Annotated[
    Literal["combined", "rule"], option(..., "The combined detector, or the paper's rule of two thresholds.", DETECTION)
]
Bound = Annotated[float | None, option(..., "Bound on the share of false alarms. Default: the detector's own.")]
FalseDiscoveries = Annotated[
    float | None,
    option(..., "Without a detector: expected share of clean pictures among those called tampered. Default: 0.1."),
]
ProbeSeed = Annotated[
    int | None,
    option(
        ...,
        "Randomise the probes with a number that only you know: attackers may know the usual ones.",
        DETECTION,
        min=0,
    ),
]
Device = Annotated[str, option(..., "Where to compute: auto, cpu, cuda, cuda:1, …", RUN)]
Engine = Annotated[Literal["local", "ray"], option(..., "What runs it: this machine's cores, or Ray.", RUN)]
Address = Annotated[str | None, option(..., "Address of a Ray cluster. Default: Ray starts on this machine.", RUN)]
Out = Annotated[Path, option(..., "Folder for results.", metavar="DIR", parser=path)]
Json = Annotated[bool, option(..., "Print one JSON document, and nothing else on stdout.", name="--json", metavar="")]


def prompts(prompt_set: str | None, texts: list[str] | None) -> list[str] | None:
    """The prompts of --prompts and --prompt; None if neither was given, and a `PromptError` if they are unusable."""
    if prompt_set == "-":
        texts, prompt_set = [line for line in sys.stdin.read().splitlines() if line.strip()] + (texts or []), None
    return None if prompt_set is None and not texts else prompt_sets.resolve(prompt_set, texts or [])


def scores(text: str, model: str) -> dict[str, tuple[str, str]]:
    """The scores of `--score A,B=MODEL,…` as they are called there: the name of each, and of the model behind it."""
    found: dict[str, tuple[str, str]] = {}
    for called in text.split(","):
        name, _, own = called.partition("=")
        found[called] = name, own or model
    return found


def check(
    models: Sequence[str | None] = (),
    score: str | Sequence[str] = registry.DEFAULT,
    captions: str | None = None,
    *,
    texts: Sequence[str] | None = None,
    need_prompts: bool = False,
    fpr: float | None = None,
    engine: str = "local",
    address: str | None = None,
    pictures: Sequence[Path] = (),
    json: bool = False,
    out: Path | None = None,
    written: Sequence[str] = ("run.json", "report.html"),
    **sources: Path | Sequence[Path] | None,
) -> None:
    """Refuse with a `FoclipError` what is wrong in options, and make the folder `out` with room for files `written`.

    `texts` are the prompts; `need_prompts` says that the command needs some if a score does. `sources` are files and
    folders by the names of their options. If none of the `pictures` is there, they are listed,
    and the command ends with 1; else the others are worth the work.
    """
    if address is not None and engine != "ray":
        raise UsageError("--address: for --engine ray")
    if captions and captions != "sidecar" and _missing(Path(captions)):
        raise PromptError(f"captions: {captions}: no such file")
    if fpr is not None and not 0 < fpr < 1:
        raise UsageError(f"fpr: {fpr} is not in (0, 1)")
    for name, given in sources.items():
        for source in [given] if isinstance(given, Path) else given or ():
            if _missing(source) and not set("*?[") & set(str(source)):
                raise UsageError(f"{name}: {source}: no such file or folder")
    for name in filter(None, models):
        if not (model := catalogue.unblurred(name)):
            raise UsageError(f"{name}: name the encoder to blur, as blurred:mini")
        if model not in embedded.names() and model.partition(":")[0] not in {*registry.schemes()} - {*registry.OWN}:
            remote.require(model.removeprefix("open_clip:"))
    scores = [score] if isinstance(score, str) else score
    for name in scores:
        registry.require(name)
    need_prompts = need_prompts and any(name in registry.NEED_PROMPTS for name in scores)
    prompt_sets.require(texts is not None, captions is not None, need_prompts)
    if pictures and all(map(_missing, pictures)):
        failures = [Failure(str(picture), f"{picture}: no such file") for picture in pictures]
        console.show(Outcome([], failures), json, lambda rows: None)
    if out is not None:
        files.output_files(*(files.output_folder(out) / name for name in written))


def _missing(path: Path) -> bool:
    try:
        return not path.exists()
    except (OSError, ValueError):  # no name that a file can have: whoever reads it says so
        return False
