"""A run's state on disk: weights, optimiser and position, nothing that could run code."""

import os
from pathlib import Path
from typing import Any

import torch

from foclip.errors import UsageError


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        torch.save(state, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path, identity: str, device: torch.device) -> dict[str, Any] | None:
    """The checkpoint of the same run, or None if there is none yet.

    Raises:
        UsageError: It is unreadable, or belongs to other settings, pictures or weights.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location=device)
        found = state["identity"]
    except Exception as error:  # torch raises a dozen types for a damaged file
        raise UsageError(f"{path}: is no checkpoint that can be read; delete it to start again") from error
    if found != identity:
        raise UsageError(
            f"{path}: belongs to a run with other settings, pictures or weights; choose another --out, or delete it"
        )
    return state
