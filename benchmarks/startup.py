"""What a command takes before and beside its work: processor seconds of whole processes, against `import torch` alone.

One picture and ten prompts, `mini`, one thread. Processes take turns.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable

from benchmarks.timing import Section, paired
from foclip.demo import photos


def spent(*arguments: str) -> tuple[float, str]:
    """Processor seconds of a Python process with one thread, and what it printed."""
    before, one = resource.getrusage(resource.RUSAGE_CHILDREN), os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True, env=one)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def table(repeats: int) -> Section:
    """Seconds of commands, and ratios to `import torch`."""
    section, photo = Section("Starting"), str(photos()[0])
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "score": ("score", photo, "--prompts", "artworks"),
            "detect": ("detect", photo),
            "fool, 0 steps": ("fool", photo, "--prompts", "artworks", "--steps", "0", "--out"),
        }
        calls: dict[str, Callable[[], float]] = {"import torch": lambda: spent("-c", "import torch")[0]}
        for name, command in commands.items():

            def call(command: tuple[str, ...] = command) -> float:
                out = (tempfile.mkdtemp(dir=folder),) if command[-1] == "--out" else ()
                return spent("-m", "foclip", *command, *out)[0]

            calls[f"foclip {name}"] = call
        seconds, ratios = paired(calls, repeats)
    for name in calls:
        section.add(process=name, seconds=seconds[name], **{"/ import torch": ratios[name]})
    return section
