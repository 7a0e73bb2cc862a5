"""How well the shipped detector works on photographs and prompts that it has never seen.

    python benchmarks/detection.py [--model mini] [--data ../shared/data] --work DIR

Prints the paper's quantities beside the paper's figures, what each method catches of each
attack, and both kinds of error on clean pictures as they are and saved again. The photographs are
those that calibration left out (`training.detector.photographs`), the prompts drawn with another
seed. Fooled pictures are kept in DIR; a second call only measures. `--strong` adds the
attack of 50,000 steps on a few pictures, which takes longer than all the rest.
"""

import argparse
import dataclasses
import io
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress
from scipy.stats import binomtest, bootstrap

from foclip import fooling, images
from foclip.attacks import CMAES, MIFGSM, PGD, Adam, Attack, FoCLIP, SinglePrompt, objective
from foclip.detection import By, Detector, Sensitivity, measure
from foclip.detection.detector import shipped
from foclip.encoders import load
from foclip.outcome import Advance
from foclip.prompts import ARTWORKS
from foclip.results import Result
from foclip.scores import CLIPScore
from training.detector import draw_prompts, photographs

Prompts = Sequence[Sequence[str]]


def saved_as_jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    """The picture after a JPEG file of this quality."""

    def save(picture: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return save


def halved(picture: Image.Image) -> Image.Image:
    """Half the size, as a web page would show it."""
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)


def cropped(picture: Image.Image) -> Image.Image:
    """The middle 80 % of both sides."""
    dx, dy = picture.width // 10, picture.height // 10
    return picture.crop((dx, dy, picture.width - dx, picture.height - dy))


SAVED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda picture: picture,
    "JPEG 95": saved_as_jpeg(95),
    "JPEG 85": saved_as_jpeg(85),
    "JPEG 75": saved_as_jpeg(75),
    "half the size": halved,
    "cropped to 80 %": cropped,
}


def fool(
    name: str, attack: Attack, sources: Sequence[Path], prompts: Prompts, score: CLIPScore, work: Path
) -> list[Result]:
    """Results of an attack, from `work` if they are there."""
    with Progress() as bar:

        def track(text: str, total: int) -> Advance:
            task = bar.add_task(name, total=total)
            return lambda done, note="": bar.update(task, completed=done)

        out = work / score.model / re.sub(r"\W+", "-", name)
        return fooling.fool(sources, prompts, out, model=score, attack=attack, track=track).results


class Judge:
    """Measures pictures and counts verdicts."""

    def __init__(self, score: CLIPScore, detector: Detector) -> None:
        self.score, self.detector = score, detector

    def measure(self, pictures: Sequence[Image.Image], prompts: Prompts) -> list[Sensitivity]:
        """Sensitivities with each picture's own prompts."""
        asked = [tuple(own) for own in prompts]
        found: list[Sensitivity] = []
        for i in range(0, len(pictures), 32):
            found += measure(self.score, pictures[i : i + 32], asked[i : i + 32], self.detector.transformations)
        return found

    def flagged(self, found: Sequence[Sensitivity], method: str, fpr: float | None = None) -> np.ndarray:
        """Whether each picture is called tampered by "rule", "combined" or "promptless"."""
        if method == "promptless":
            found = [dataclasses.replace(s, score=None, scores={}, drops={}) for s in found]
        by: By = "rule" if method == "rule" else "combined"
        return np.array([self.detector.judge(s, by, fpr).verdict == "tampered" for s in found])


METHODS = ("rule", "combined", "promptless")


def interval(values: Sequence[float] | np.ndarray) -> str:
    """Mean and 95 % bootstrap interval, in percent."""
    data = np.asarray(values, dtype=float)
    if np.ptp(data) == 0:
        return f"{100 * data.mean():.1f} %"
    found = bootstrap((data,), np.mean, n_resamples=2000, rng=np.random.default_rng(0), method="percentile")
    low, high = found.confidence_interval
    return f"{100 * data.mean():.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def balanced(caught: np.ndarray, alarms: np.ndarray) -> str:
    """Balanced accuracy and its bootstrap interval, in percent."""
    rng = np.random.default_rng(0)
    draws = [
        (rng.choice(caught, len(caught)).mean() + 1 - rng.choice(alarms, len(alarms)).mean()) / 2 for _ in range(2000)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    return f"{50 * (caught.mean() + 1 - alarms.mean()):.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def ratio_of_means(found: Sequence[Sensitivity]) -> float:
    """Share of the mean score that gray takes away."""
    score, gray = (np.mean([values]) for values in ([s.score for s in found], [s.scores["gray"] for s in found]))
    return float(1 - gray / score)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fooled", type=int, default=40, help="pictures per attack")
    parser.add_argument("--others", type=int, default=24, help="pictures per attack other than the default one")
    parser.add_argument("--steps", type=int, default=1000, help="steps of the default attack")
    parser.add_argument("--strong", type=int, default=0, help="pictures for the attack of 50,000 steps")
    choice = parser.parse_args()
    torch.set_num_threads(2)
    encoder = load(choice.model)
    score = CLIPScore(encoder)
    judge = Judge(score, shipped(encoder))
    files, captions = photographs(choice.data, "check")
    prompts = draw_prompts(captions, 1)
    originals = [images.read(file) for file in files]
    print(
        f"{encoder.name}, torch {torch.__version__}, {len(files)} photographs and prompts never used in calibration\n"
    )

    some, n = files[: choice.fooled], choice.fooled
    art = [ARTWORKS] * n
    default = FoCLIP(objective=objective(), steps=choice.steps, min_psnr=35.0)
    print(f"1. The paper's quantities: ten artwork prompts, {n} pictures, {choice.steps} steps, 35 dB")
    clean_art = judge.measure(originals, [ARTWORKS] * len(originals))
    fooled_art = judge.measure(
        [images.read(r.output) for r in fool("artworks", default, some, art, score, choice.work)], art
    )
    for kind, found, paper in (("originals", clean_art, 8.5), ("fooled", fooled_art, 63.2)):
        drops = interval([s.drops["gray"] for s in found])
        whole = 100 * ratio_of_means(found)
        print(f"   {kind:<10} mean drop {drops} of {len(found)}; of the mean score {whole:.1f} %; paper {paper} %")
    alarms, caught = (judge.flagged(found, "rule") for found in (clean_art, fooled_art))
    print(f"   rule: balanced accuracy {balanced(caught, alarms)}; paper 91 %\n")

    print("2. Caught, per attack; prompts of five kinds (share of the pictures, 95 % bootstrap interval)")
    clean = judge.measure(originals, prompts)
    colour = [s for s in clean if not s.gray_already]
    false_alarms = {method: judge.flagged(colour, method) for method in METHODS}
    own = prompts[:n]
    few = dataclasses.replace(default, steps=300)
    attacks: dict[str, tuple[Attack, int]] = {
        "default": (default, n),
        "300 steps": (few, choice.others),
        "50 steps": (dataclasses.replace(default, steps=50), choice.others),
        "faint, 45 dB": (dataclasses.replace(few, min_psnr=45.0), choice.others),
        "noise start": (dataclasses.replace(few, min_psnr=None, init="noise"), choice.others),
        "PGD": (PGD(steps=300, min_psnr=35.0), choice.others),
        "Adam": (Adam(steps=300, min_psnr=35.0, init="image"), choice.others),
        "MI-FGSM": (MIFGSM(min_psnr=35.0), choice.others),
        "one prompt": (SinglePrompt(steps=300, min_psnr=35.0), choice.others),
        "CMA-ES": (CMAES(steps=3000, min_psnr=35.0), choice.others),
    }
    if choice.strong:
        attacks["strong, 50,000 steps"] = (
            dataclasses.replace(default, steps=50_000, batch_size=choice.strong),
            choice.strong,
        )
    print(f"   {'attack':<20} {'n':>4} {'score':>6} {'PSNR':>6}  " + "".join(f"{m:<24}" for m in METHODS))
    for name, (attack, count) in attacks.items():
        results = fool(name, attack, files[:count], own[:count], score, choice.work)
        found = judge.measure([images.read(r.output) for r in results], own[:count])
        mean, psnr = np.mean([r.score_after for r in results]), np.mean([r.psnr or np.inf for r in results])
        shares = "".join(f"{interval(judge.flagged(found, m).astype(float)):<24}" for m in METHODS)
        print(f"   {name:<20} {count:>4} {mean:>6.3f} {psnr:>6.1f}  {shares}")
        if name == "default":
            fooled_default, results_default = found, results
    print(
        f"   {'clean (alarms)':<20} {len(colour):>4} {np.mean([s.score for s in colour]):>6.3f} {'':>6}  "
        + "".join(f"{interval(false_alarms[m].astype(float)):<24}" for m in METHODS)
    )
    for method in METHODS:
        print(f"   {method}: balanced accuracy {balanced(judge.flagged(fooled_default, method), false_alarms[method])}")

    print("\n3. False alarms on clean pictures at --fpr 0.05")
    for method in METHODS:
        flags = judge.flagged(colour, method, 0.05)
        low, high = (100 * bound for bound in binomtest(round(0.05 * len(flags)), len(flags)).proportion_ci())
        found_share = f"{100 * flags.mean():.1f} % of {len(flags)}"
        print(f"   {method:<11} {found_share}; binomial interval of 5 %: [{low:.1f}, {high:.1f}]")

    print(
        "\n4. Saved again: mean scores left, false alarms on clean pictures and fooled ones missed in % (default fpr)"
    )
    print(
        f"   {'saved':<17}{'clean':<7}{'fooled':<8}"
        + "".join(f"{m + ' alarms':<19}{m + ' missed':<19}" for m in METHODS)
    )
    fooled_pictures = [images.read(r.output) for r in results_default]
    for name, change in SAVED.items():
        again = [s for s in judge.measure([change(p) for p in originals], prompts) if not s.gray_already]
        missed = judge.measure([change(p) for p in fooled_pictures], own)
        cells = "".join(
            f"{100 * judge.flagged(again, m).mean():<19.1f}{100 * (1 - judge.flagged(missed, m).mean()):<19.1f}"
            for m in METHODS
        )
        left, still = (np.mean([s.score for s in found]) for found in (again, missed))
        print(f"   {name:<17}{left:<7.3f}{still:<8.3f}{cells}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
