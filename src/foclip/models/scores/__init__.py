"""Scores: one file each; `score` says what a score is.

A module of this package that defines an `EncoderScore` with a name is found by it; nothing registers it.
"""

import importlib
import inspect
import pkgutil
from functools import cache

from foclip.errors import UsageError
from foclip.models import Encoder, load
from foclip.models.scores.clip import CLIPScore
from foclip.models.scores.ensemble import Lower, Mean
from foclip.models.scores.score import EncoderScore, Prompts, Score, as_prompts

#: The score unless another is asked for.
DEFAULT = CLIPScore.name

__all__ = [
    "DEFAULT",
    "CLIPScore",
    "EncoderScore",
    "Lower",
    "Mean",
    "Prompts",
    "Score",
    "as_prompts",
    "available",
    "resolve",
]


@cache
def available() -> dict[str, type[EncoderScore]]:
    """Every score over an encoder by name, the default first."""
    found: dict[str, type[EncoderScore]] = {DEFAULT: CLIPScore}
    for module in pkgutil.iter_modules(__path__):
        for kind in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if inspect.isclass(kind) and issubclass(kind, EncoderScore) and not inspect.isabstract(kind):
                found.setdefault(kind.name, kind)
    return found


def resolve(model: str | Encoder | EncoderScore, score: str = DEFAULT, device: str = "auto") -> EncoderScore:
    """The score that is meant: itself, or the one of this name over an encoder or its name.

    Args:
        model: A score, an encoder or the name of one.
        score: Name of the score, unless `model` is one.
        device: Where a model that is loaded here lives.

    Raises:
        UsageError: There is no score of this name.
        EncoderError: There is no encoder of this name, or it cannot be loaded.
    """
    if isinstance(model, EncoderScore):
        return model
    if score not in available():
        raise UsageError(f"score: {score!r} is none of {', '.join(available())}")
    return available()[score](load(model, device) if isinstance(model, str) else model)
