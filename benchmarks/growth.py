"""How cost grows: with prompts, pictures and steps, and peak memory with the size of a picture.

Times are those of the embedded model on one thread, per step and picture in full batches. Memory is the peak of a
process of its own that fools one picture as `foclip fool` does, less that of one that fools a small picture.
"""

import json
import subprocess
import sys
import tempfile

import torch

from benchmarks.steps import encoder_of
from benchmarks.timing import Section, now
from foclip.attacks import AttackTask, FoCLIP, make_plan, run
from foclip.models.scores import CLIPScore

#: What a process of its own does: fool one picture of noise, and say the most memory it had.
FOOL = """
import json, resource, sys, numpy as np
from PIL import Image
import foclip, torch
from foclip.attacks import FoCLIP, make_plan
torch.set_num_threads(1)
height, width = map(int, sys.argv[1:3])
rng = np.random.default_rng(0)
small = Image.fromarray(rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8))
picture = small.resize((width, height))
foclip.fool(picture, "artworks", sys.argv[3], attack=make_plan(FoCLIP, steps=8, budgets="psnr:35"))
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
"""


def step(score: CLIPScore, pictures: int, prompts: int, steps: int) -> float:
    """Seconds per step and picture."""
    asked = tuple(f"a photo of number {number}" for number in range(prompts))
    jobs = [
        AttackTask(torch.full((3, 96, 96), 40 + number % 150, dtype=torch.uint8), asked) for number in range(pictures)
    ]
    marks: list[float] = []  # from the first step on: encoding the prompts does not count
    plan = make_plan(FoCLIP, steps=steps, budgets="psnr:35")
    list(run(jobs, score, plan, on_step=lambda _: marks.append(now()), workers=1))
    return (marks[-1] - marks[0]) / (len(marks) - 1) / pictures


def peak(height: int, width: int) -> int:
    """Most bytes of memory that fooling a picture takes a process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", FOOL, str(height), str(width), folder]
        return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def table(device: str) -> Section:
    """Rows of what grows."""
    section = Section("How the cost of a step grows")
    score = CLIPScore(encoder_of("mini", device))
    step(score, 4, 10, 3)
    for prompts in (10, 100, 1000, 10_000):
        section.add(what="prompts", number=prompts, **{"ms per step and picture": 1e3 * step(score, 4, prompts, 10)})
    for pictures in (4, 16, 64):
        section.add(
            what="pictures", number=pictures, **{"ms per step and picture": 1e3 * step(score, pictures, 10, 10)}
        )
    for steps in (10, 100, 400):
        section.add(what="steps", number=steps, **{"ms per step and picture": 1e3 * step(score, 4, 10, steps)})
    return section


def memory() -> Section:
    """Peak memory by size."""
    section = Section("Peak memory of one picture, from the decoded picture to file and figures")
    base = peak(96, 96)
    for height, width in ((768, 1024), (1536, 2048), (3000, 4000)):
        above, copy = peak(height, width) - base, 3 * 4 * height * width
        section.add(
            picture=f"{height}×{width}", **{"MB above a small one": above / 1e6, "float32 copies": above / copy}
        )
    return section
