"""From names to models: encoders by scheme, and scores by name. Nothing is imported before it is asked for.

An encoder is named by

- `mini`, `mini-vit`, `mini-robust` and other hardened encoders: embedded in the package;
- `ARCHITECTURE/TAG`, as `ViT-L-14-336-quickgelu/openai`: open_clip's pretrained weights;
- `ARCHITECTURE/FILE`, as `RN50/weights/rn50.pt`: a checkpoint of that architecture, at the checkpoint's own size and
  with the preprocessing of the architecture's tags; no checkpoint tells its activation, so give QuickGELU weights as
  `ViT-B-32-quickgelu/FILE` (a `CheckpointWarning` says what was taken);
- `ARCHITECTURE/TAG/FILE`, as `ViT-L-14/openai/mine.pt`: a checkpoint prepared for, and activated, as the weights TAG;
- `FILE`: a checkpoint whose architecture is recognised by the shapes of its weights;
- `transformers:PLACE`: a repository of the hub or a folder of `save_pretrained`'s, for transformers; a folder, and a
  repository as `openai/clip-vit-base-patch32`, need no scheme;
- `blurred:NAME`: the encoder NAME, which is given every picture blurred, and so is harder to fool;
- `SCHEME:REST`: `hf-hub:ORGANISATION/REPOSITORY` and `local-dir:FOLDER` as open_clip spells them, `open_clip:NAME`, and
  what other packages add (`register_encoder`, or the entry point group `foclip.encoders`).

A score is named by what `foclip scores` lists; other packages add theirs with `register`, or with the entry point group
`foclip.scorers`. Either kind of entry point is a function of a name and a device.
"""

import inspect
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from foclip.errors import EncoderError, UsageError
from foclip.models import catalogue, embedded

if TYPE_CHECKING:
    import torch

    from foclip.models.encoder import Encoder
    from foclip.models.scorer import Scorer

    #: Makes a scorer, given an encoder or the name of one, and a device.
    ScorerFactory = Callable[[str | Encoder, torch.device], Scorer]

Made = TypeVar("Made", bound=Callable[..., Any])


def _points(group: str) -> EntryPoints:
    """The entry points of a group; they are looked for anew where a folder of packages has changed."""

    def changed(folder: str) -> int:
        try:
            return Path(folder).stat().st_mtime_ns
        except OSError:
            return 0

    return _points_of(group, tuple((folder, changed(folder)) for folder in sys.path))


@lru_cache(maxsize=8)
def _points_of(group: str, folders: tuple[tuple[str, int], ...]) -> EntryPoints:
    return entry_points(group=group)


class _Registry:
    """What makes models of one kind: by names of this package, registered ones, and those of an entry point group."""

    def __init__(self, kind: str, group: str, own: dict[str, str]) -> None:
        self._kind, self._group, self._own = kind, group, own
        self._added: dict[str, Any] = {}

    def names(self) -> list[str]:
        """All names, those of this package first."""
        return list(dict.fromkeys([*self._own, *self._added, *(each.name for each in _points(self._group))]))

    def register(self, name: str) -> Callable[[Made], Made]:
        """Add the decorated function; a `UsageError` if there is one of this name.

        It makes a score of an encoder (or the name of one) and a device, or an encoder of its name and a device.
        """

        def add(made: Made) -> Made:
            if name in self.names():
                raise UsageError(f"{self._kind}: there is a {name!r} already")
            self._added[name] = made
            return made

        return add

    def __getitem__(self, name: str) -> Any:
        if name in self._added:
            return self._added[name]
        own = [EntryPoint(name, self._own[name], self._group)] if name in self._own else []
        try:
            return next(iter(own or _points(self._group).select(name=name))).load()
        except Exception as error:  # of another package, which may fail in any way
            raise UsageError(f"{name}: its package cannot be loaded ({type(error).__name__}: {error})") from error


#: The score unless another is asked for.
DEFAULT = "clipscore"
_SCORES = {
    DEFAULT: "foclip.models.scores.clip:CLIPScore.load",
    "clip-iqa": "foclip.models.scores.clip_iqa:CLIPIQA.load",
    "siglip": "foclip.models.scores.siglip:SigLIPScore.load",
    "pickscore": "foclip.models.scores.pickscore:PickScore.load",
    "hpsv2": "foclip.models.scores.hps:HPSv2.load",
    "hpsv2.1": "foclip.models.scores.hps:HPSv21.load",
    "aesthetic": "foclip.models.scores.aesthetic:Aesthetic.load",
    "blip-itm": "foclip.models.scores.blip:BLIPMatching.load",
    "imagereward": "foclip.models.scores.imagereward:ImageReward.load",
    "vqascore": "foclip.models.scores.vqascore:VQAScore.load",
}
#: Scores of this package that need prompts. Whether those of others do is known once they are loaded (`ScoreInfo`).
NEED_PROMPTS = tuple(name for name in _SCORES if name not in ("clip-iqa", "aesthetic"))
#: Scores that take a file after their name, as `aesthetic:HEAD.pth`.
WITH_FILE = ("aesthetic",)
#: Schemes that open_clip loads.
OPEN_CLIP = ("open_clip", "hf-hub", "local-dir")
#: Schemes of this package.
OWN = (*OPEN_CLIP, "transformers", "blurred")
_FAMILIES = dict.fromkeys(OPEN_CLIP, "foclip.models.open_clip:load")
_FAMILIES["transformers"] = "foclip.models.hugging_face:load"
_FAMILIES["blurred"] = "foclip.models.blurred:load"
_scores, _families = _Registry("score", "foclip.scorers", _SCORES), _Registry("scheme", "foclip.encoders", _FAMILIES)
#: Names of all scores, the default first; and what adds one.
available, register = _scores.names, _scores.register
#: Schemes of all families of encoders; and what adds one.
schemes, register_encoder = _families.names, _families.register


def require(name: str) -> None:
    """A `UsageError` if there is no score of this name; whether it can be loaded is another matter."""
    base, _, file = name.partition(":")
    if name not in available() and not (file and base in WITH_FILE):
        hint = f"; {name!r} is an encoder: load_encoder({name!r})" if name in embedded.names() else ""
        raise UsageError(f"score: {name!r} is none of {', '.join(available())}{hint}")


def by_open_clip(score: str, model: str) -> bool:
    """Whether the score is one of this package, and open_clip makes the encoder."""
    model = catalogue.unblurred(model)
    other = model.partition(":")[0] in {*schemes()} - {*OPEN_CLIP} or catalogue.in_transformers(model) is not None
    return score.partition(":")[0] in _SCORES and not other


def load(name: str = DEFAULT, model: "str | Encoder" = embedded.DEFAULT, *, device: str = "auto") -> "Scorer":
    """Load a score by its name; a `UsageError` if there is none, an `EncoderError` if its encoder cannot be loaded.

    Args:
        name: Name of the score (`available`).
        model: The encoder behind it, or its name; a score with a model of its own takes no notice of it.
        device: Where a model that is loaded here lives ("cpu", "cuda", "cuda:1", …); "auto" is a GPU if there is one.
    """
    from foclip.models.surroundings import undisturbed

    with undisturbed():
        return factory(name)(model, _checked(device))


def factory(name: str) -> "ScorerFactory":
    """What makes the score of this name; a `UsageError` if there is none, or its package cannot be loaded."""
    require(name)
    base, _, file = name.partition(":")
    made: ScorerFactory = partial(_scores[base], head=file) if file and base in WITH_FILE else _scores[name]
    return made


def needs(name: str) -> str:
    """What a score needs besides an encoder, as its docstring says it; empty for nothing. Errors as of `factory`."""
    made = factory(name)
    about = inspect.getdoc(getattr(made, "__self__", made)) or ""  # a class, whose method makes it
    return " ".join(about.split()).partition("Needs: ")[2]


def load_encoder(name: str = embedded.DEFAULT, device: "str | torch.device" = "auto") -> "Encoder":
    """Load an encoder by its name (see the module), frozen and in evaluation mode; an `EncoderError` if that fails."""
    from foclip.models.surroundings import undisturbed

    with undisturbed():
        place, scheme = _checked(device), name.partition(":")[0]
        if catalogue.in_transformers(name) is not None:
            scheme = "transformers"
        if name not in embedded.names() and scheme in schemes():
            loaded: Encoder = _families[scheme](name.removeprefix("open_clip:"), place)
            return loaded
        from foclip.models import open_clip

        return (open_clip.load_embedded if name in embedded.names() else open_clip.load)(name, place)


def resolve(model: "str | Encoder | Scorer", score: str = DEFAULT, device: str = "auto") -> "Scorer":
    """The scorer that is meant: `model` itself if it is one, else the score of this name over that encoder (`load`)."""
    from foclip.models.encoder import Encoder
    from foclip.models.scorer import Scorer

    if isinstance(model, str | Encoder):
        return load(score, model, device=device)
    if not isinstance(model, Scorer):
        raise UsageError(f"model: {type(model).__name__} is neither a scorer nor an encoder nor the name of one")
    return model


@lru_cache(maxsize=6)
def shared_encoder(name: str, device: str = "auto") -> "Encoder":
    """`load_encoder`, which remembers the few encoders that were asked for last; `clear_cache` forgets them."""
    return load_encoder(name, device)


#: Forgets the encoders that are kept between calls, so that their memory can be used for others.
clear_cache = shared_encoder.cache_clear


def _checked(device: "str | torch.device") -> "torch.device":
    """A device that is there and computes."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        if not float(torch.ones(1, device=found)) == 1:  # "meta" holds no numbers
            raise ValueError
    except Exception as error:  # torch raises many types, and tells of drivers at length
        raise EncoderError(f"device: {str(device)!r} is no device of this machine; use cpu, cuda, cuda:1 …") from error
    return found
