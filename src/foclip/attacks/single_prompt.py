"""Naive ascent on one prompt: what FoCLIP is compared with, its optimiser without its objective."""

from dataclasses import dataclass, field
from typing import ClassVar

from foclip.attacks.foclip import FoCLIP
from foclip.objective import Objective, OnePrompt


@dataclass(frozen=True, kw_only=True)
class SinglePrompt(FoCLIP):
    """FoCLIP's SGD on the cosine to one prompt, the first unless `objective` names another.

    The other prompts are scored, but nothing raises their scores.
    """

    name: ClassVar[str] = "single-prompt"

    objective: Objective = field(default_factory=OnePrompt)
