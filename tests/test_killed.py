"""A command that is killed and called again writes the same bytes; `benchmarks/killed.py` asks 20 times of each."""

import random
import signal
from pathlib import Path

from benchmarks.killed import Command, differences, disturbed, fooled, undisturbed


def test_killed_and_called_again(tmp_path: Path) -> None:
    command = Command(("fool", "0.png", "1.png", "--prompts", "artworks", "--steps", "12", "--out", "out"), fooled)
    expected, times = undisturbed(command, tmp_path / "undisturbed")
    assert len(expected) == 3
    found, _ = disturbed(command, tmp_path / "disturbed", times, [signal.SIGKILL, signal.SIGINT], random.Random(0))
    assert differences(expected, found) == []
