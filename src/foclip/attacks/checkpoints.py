"""Unfinished pictures on disk, so that a long run goes on where it was cut off."""

import time
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from foclip.attacks.base import Trajectory

#: Fields that say which picture a trajectory is, and what is made anew; the rest is its state.
NOT_STATE = {"index", "original", "texts", "seed", "key", "scratch", "search"}


class Checkpoints:
    """A folder with one file per unfinished picture.

    The file's name is a digest of the picture, its prompts, the attack and the
    encoder, so nothing is ever continued with other settings.

    Args:
        folder: Made when first needed.
        interval: Seconds between two writes.
    """

    def __init__(self, folder: Path, interval: float = 30.0) -> None:
        self.folder = folder
        self.interval = interval
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether `interval` has passed since the last write."""
        return time.monotonic() - self._last >= self.interval

    def save(self, trajectories: Iterable["Trajectory"]) -> None:
        """Write the state of each trajectory, each file atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for trajectory in trajectories:
            state = {f.name: getattr(trajectory, f.name) for f in fields(trajectory) if f.name not in NOT_STATE}
            partial = self._path(trajectory.key).with_suffix(".part")
            torch.save(state, partial)
            partial.replace(self._path(trajectory.key))
        self._last = time.monotonic()

    def restore(self, trajectory: "Trajectory") -> None:
        """Continue from the file of this trajectory, if there is one that is whole."""
        try:
            state = torch.load(self._path(trajectory.key), map_location=trajectory.pixels.device, weights_only=True)
        except Exception:  # none, or cut off: this picture starts over
            return
        for name, value in state.items():
            setattr(trajectory, name, value)

    def discard(self, key: str) -> None:
        """Remove the file of a finished picture."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.pt"
