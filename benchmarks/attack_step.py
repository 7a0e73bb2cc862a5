"""What one step of the attack costs, against the bare forward + backward pass of the same tower.

The floor is the image tower alone on a ready input of the same batch,
parameters frozen, gradient with respect to the input. The attack's step adds 8-bit
rounding, preprocessing, objective, fidelity budget, update and bookkeeping.
Both are timed in turn in one process; the median of the ratios counts.

    python benchmarks/attack_step.py [--model mini] [--threads 2]

Without --model it measures `mini` and an untrained ViT-B/32.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch

from foclip.attacks import FoCLIP
from foclip.attacks.foclip import objective
from foclip.encoders import Encoder, load
from foclip.prompts import ARTWORKS

BOUND = 1.15


def seconds(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(encoder: Encoder, height: int, width: int, batch: int, steps: int, repeats: int) -> tuple[float, float]:
    """Median seconds of the floor, and median ratio of an attack step to it."""
    texts = encoder.encode_texts(ARTWORKS)
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator) for _ in range(batch)]
    inputs = encoder.preprocess(torch.stack(pictures) / 255).requires_grad_(True)
    attack = FoCLIP(objective=objective(), steps=steps, min_psnr=35.0, batch_size=batch)

    def floor() -> None:
        for _ in range(steps + 1):  # `steps` updates take one evaluation more
            torch.autograd.grad(encoder.model.encode_image(inputs).sum(), inputs)

    def step() -> None:
        for _ in attack.run(encoder, pictures, texts):
            pass

    floor()  # warm-up
    step()
    floors, ratios = [], []
    for _ in range(repeats):
        bare = seconds(floor)
        ratios.append(seconds(step) / bare)
        floors.append(bare / (steps + 1))
    return statistics.median(floors), statistics.median(ratios)


def untrained(architecture: str) -> Encoder:
    """An encoder of this architecture with random weights, from a checkpoint file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        torch.save(open_clip.create_model(architecture).state_dict(), path)
        return load(f"{architecture}/{path}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="only this encoder")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    encoders = [load(arguments.model)] if arguments.model else [load("mini"), untrained("ViT-B-32")]
    print(f"torch {torch.__version__}, {arguments.threads} threads, wall time, median of {arguments.repeats}")
    print(f"{'model':<10} {'picture':>9} {'batch':>5} {'floor / ms':>10} {'step / floor':>12}  ≤ {BOUND}")
    for encoder in encoders:
        native = encoder.image_size
        for (height, width), batch in ((native, 4), ((256, 256), 4), ((256, 340), 1), ((512, 512), 4)):
            steps = 20 if encoder.parameters < 50_000_000 else 3
            floor, ratio = measure(encoder, height, width, batch, steps, arguments.repeats)
            verdict = "yes" if ratio <= BOUND else "no"
            size = f"{height}×{width}"
            print(
                f"{encoder.name.split('/')[0]:<10} {size:>9} {batch:>5} {1e3 * floor:>10.2f} {ratio:>12.3f}  {verdict}"
            )


if __name__ == "__main__":
    main()
