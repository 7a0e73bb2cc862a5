"""What one step of the attack costs, against the bare forward + backward pass of the same tower.

The floor is the image tower alone, as open_clip loads it, on a ready input of the same
batch, parameters frozen, gradient with respect to the input. (`OpenClipEncoder` lays convolutions out
channels-last on a CPU, which gives some of the rest back.) The attack's step adds what makes it an
attack on a file: 8-bit rounding, the resize, objective, fidelity budget, update and
bookkeeping. Beside it stands the loop one would write by hand (`F.interpolate` with
antialiasing, a clamp, the same three terms, `torch.optim.SGD`), which resizes too but
neither rounds, keeps to a budget nor keeps the best iterate; and our step with the range guard written
out in PyTorch's own operations, which shows what the one function for it buys; and last, against
our step, one with the mask (`--mask visible`), and how many steps it takes to make the mask, once a picture. All are
timed in turn in one process; medians of the ratios count. The bound is on pictures
of the tower's own input size; larger ones, which floor and tower never see, are resized
at every step, and the table says what that costs.

    python benchmarks/attack_step.py [--model mini] [--threads 2]

Without --model it measures `mini` and an untrained ViT-B/32.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import center_crop, normalize

from foclip.attacks import AttackPlan, AttackTask, FoCLIP, make_plan, objective, run
from foclip.data.prompts import ARTWORKS
from foclip.models import OpenClipEncoder, load_encoder
from foclip.models.scores import CLIPScore
from foclip.objective import FeatureAlignment, Objective, Pictures, ScoreBalance

BOUND = 1.15


def seconds(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(encoder: OpenClipEncoder, height: int, width: int, batch: int, steps: int, repeats: int) -> list[float]:
    """Medians: seconds of the floor; ratios to it of a step, with its guard written out, by hand; both of masks."""
    texts = encoder.encode_texts(ARTWORKS)
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator) for _ in range(batch)]
    originals = torch.stack(pictures) / 255
    inputs = encoder.preprocess.normalize(encoder.preprocess.pixels(originals)).requires_grad_(True)
    tower = copy.deepcopy(encoder.model).to(memory_format=torch.contiguous_format)
    score = CLIPScore(encoder)
    attack = make_plan(FoCLIP, objective=objective(), steps=steps, budgets="psnr:35", batch_size=batch)

    def floor() -> None:
        for _ in range(steps + 1):  # `steps` updates take one evaluation more
            torch.autograd.grad(tower.encode_image(inputs).sum(), inputs)

    def step(attack: AttackPlan = attack) -> None:
        for _ in run([AttackTask(picture, ARTWORKS) for picture in pictures], score, attack):
            pass

    masked = attack.replace(mask="visible")
    written_out = attack.replace(objective=FeatureAlignment() + ScoreBalance() + GuardWrittenOut())

    def by_hand() -> None:
        pixels = originals.clone().requires_grad_(True)
        optimizer = torch.optim.SGD([pixels], lr=1.0, momentum=0.5)
        for _ in range(steps + 1):
            features = F.normalize(tower.encode_image(resize_by_hand(encoder, pixels.clamp(0, 1))), dim=-1)
            scores = features @ texts.T
            outside = (F.relu(-pixels) + F.relu(pixels - 1)).mean()
            optimizer.zero_grad()
            torch.autograd.backward(-scores.mean() + scores.var(dim=1, correction=0).mean() + outside)
            optimizer.step()

    for warm_up in (floor, step, lambda: step(written_out), by_hand, lambda: step(masked)):
        warm_up()
    rows = []
    for _ in range(repeats):
        bare = seconds(floor)
        ratios = (seconds(call) / bare for call in (step, lambda: step(written_out), by_hand))
        attacks = (attack.replace(steps=0), masked.replace(steps=0), attack, masked)
        begun, begun_masked, whole, whole_masked = [seconds(partial(step, each)) for each in attacks]
        one = (whole - begun) / steps
        made = (begun_masked - begun) / one
        rows.append((bare / (steps + 1), *ratios, (whole_masked - begun_masked) / steps / one, made))
    return [statistics.median(column) for column in zip(*rows, strict=True)]


class GuardWrittenOut(Objective):
    """The range guard in PyTorch's own operations, without the function that reads the pixels half as often."""

    def __call__(self, values: Tensor, pixels: Pictures, originals: Pictures) -> Tensor:
        return torch.stack([(x - x.clamp(0, 1)).abs().mean() for x in pixels])


def resize_by_hand(encoder: OpenClipEncoder, pixels: Tensor) -> Tensor:
    """Short side to the input's, centre crop, normalisation: as it is usually written."""
    side = encoder.image_size[0]
    size = encoder.preprocess.resized(*pixels.shape[-2:])
    if size != pixels.shape[-2:]:
        pixels = F.interpolate(pixels, size=size, mode="bicubic", antialias=True)
    pixels = center_crop(pixels, [side, side])
    config = open_clip.get_model_preprocess_cfg(encoder.model)
    return torch.as_tensor(normalize(pixels, config["mean"], config["std"]))


def opened(name: str, device: str = "cpu") -> OpenClipEncoder:
    """An encoder whose model can be used alone."""
    encoder = load_encoder(name, device)
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


def untrained(architecture: str, device: str = "cpu") -> OpenClipEncoder:
    """An encoder of this architecture with random weights, from a checkpoint file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        torch.save(open_clip.create_model(architecture).state_dict(), path)
        return opened(f"{architecture}/{path}", device)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="only this encoder")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    encoders = [opened(arguments.model)] if arguments.model else [opened("mini"), untrained("ViT-B-32")]
    print(f"torch {torch.__version__}, {arguments.threads} threads, wall time, median of {arguments.repeats}")
    titles = f"{'picture':>9} {'batch':>5} {'floor / ms':>10} {'step / floor':>12}"
    titles += f" {'guard written out':>17} {'by hand / floor':>15} {'masked / step':>13} {'mask / step':>11}"
    print(f"{'model':<10} {titles}  step ≤ {BOUND}")
    for encoder in encoders:
        native = encoder.image_size
        for (height, width), batch in ((native, 4), ((256, 256), 4), ((256, 340), 1), ((512, 512), 4)):
            steps = 20 if encoder.parameter_count < 50_000_000 else 3
            floor, ratio, written_out, by_hand, masked, made = measure(
                encoder, height, width, batch, steps, arguments.repeats
            )
            verdict = "yes" if ratio <= BOUND else "no"
            size = f"{height}×{width}"
            name = encoder.name.split("/")[0]
            figures = f"{1e3 * floor:>10.2f} {ratio:>12.3f} {written_out:>17.3f} {by_hand:>15.3f}"
            figures += f" {masked:>13.3f} {made:>11.1f}"
            print(f"{name:<10} {size:>9} {batch:>5} {figures}  {verdict}")


if __name__ == "__main__":
    main()
