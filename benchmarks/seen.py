"""What is seen of the masked attack where it scores what the plain one does at 38 dB.

    python -m benchmarks.seen PHOTO… [--model mini] [--steps 150] [--metric flip99] [--table photos]

Ten artworks. The masked attack's budget, a limit of FLIP's worst places or of another metric that is the same for all
photos, is searched until its mean score is within 2 % of the plain attack's from below and from above; its figures at
that very score are read off between the two. Figures are means over the files. They are written to TABLE of
docs/figures/seen-MODEL.json.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.common import mean_score
from benchmarks.record import save
from foclip.attacks import AttackPlan, AttackTask, FoCLIP, make_plan, objective, run
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.models import load_encoder
from foclip.models.scorer import Scorer
from foclip.models.scores import CLIPScore
from foclip.outcome import mean
from foclip.perceptual.budget import Budget
from foclip.perceptual.fidelity import FIGURES, fidelity

#: The plain attack's budget, dB.
PLAIN = 38.0
#: How far from the plain attack's score the masked one's may be to read off figures at it, and runs at most.
NEAR, RUNS = 0.02, 10
#: Where the search begins, and what makes a limit looser, until there are two to halve between.
LIMITS = {"psnr": (35.5, -0.5), "ssim": (0.985, -0.002), "flip": (0.05, 0.003), "flip99": (0.22, 0.015)}
#: What counts, with the largest ratio to the plain attack's that is aimed at.
AIMS = {"1 − ssim": 0.6, "flip": 0.8, "flip99": 1.0}


def figures(attack: AttackPlan, score: Scorer, pictures: list[torch.Tensor]) -> dict[str, float]:
    """Means over pictures: score of the file and how close it is to its original."""
    found = list(run([AttackTask(picture, ARTWORKS) for picture in pictures], score, attack))
    close = [fidelity(fooled.pixels, fooled.task.picture) for fooled in found]
    means = {name: mean([float(getattr(each, name)) for each in close]) for name in FIGURES}
    scores = [mean_score(score, fooled.pixels, ARTWORKS) for fooled in found]
    return {"score": mean(scores), "1 − ssim": 1 - means.pop("ssim")} | means


def searched(
    attack: AttackPlan, metric: str, score: Scorer, pictures: list[torch.Tensor], wanted: float
) -> dict[str, float]:
    """Figures of the attack at the score that is wanted, between those of the two limits around it.

    Raises:
        SystemExit: No limit that was tried reaches it, or all do.
    """
    limit, looser = LIMITS[metric]
    ends: dict[bool, tuple[float, dict[str, float]]] = {}
    for _ in range(RUNS):
        found = figures(attack.replace(budgets=(Budget(metric, limit),)), score, pictures)
        row(f"masked, {metric}:{limit:.4g}", found)
        ends[found["score"] < wanted] = limit, found
        if len(ends) < 2:
            limit += looser if True in ends else -looser
        elif all(abs(end["score"] - wanted) <= NEAR * wanted for _, end in ends.values()):
            break
        else:
            limit = sum(at for at, _ in ends.values()) / 2
    if len(ends) < 2:
        raise SystemExit(
            f"seen: the masked attack's score was never on both sides of {wanted:.3f}; try another --metric"
        )
    below, above = ends[True][1], ends[False][1]
    share = (wanted - below["score"]) / (above["score"] - below["score"])
    return {name: value + share * (above[name] - value) for name, value in below.items()}


def row(name: str, values: dict[str, float]) -> None:
    """Print a line of the table."""
    print(f"{name:<22}" + "".join(f"{value:>11.4f}" for value in values.values()), flush=True)


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--metric", choices=LIMITS, default="flip99")
    parser.add_argument("--table", default="photos", help="what the photographs are called")
    choice = parser.parse_args()
    torch.set_num_threads(1)
    score = CLIPScore(load_encoder(choice.model))
    pictures = [images.to_tensor(images.read(path)) for path in choice.photos]
    attack = make_plan(FoCLIP, objective=objective(), steps=choice.steps)
    print(f"{choice.model}, {len(pictures)} photos, {choice.steps} steps, torch {torch.__version__}")
    plain = figures(attack.replace(budgets=Budget("psnr", PLAIN)), score, pictures)
    print(f"{'':<22}" + "".join(f"{name:>11}" for name in plain))
    row(f"plain, psnr:{PLAIN:g}", plain)
    masked = searched(attack.replace(mask="visible"), choice.metric, score, pictures, plain["score"])
    row("masked, at that score", masked)
    about = {"plain": f"psnr:{PLAIN:g}", "steps": choice.steps, "metric": choice.metric}
    ratios: dict[str, object] = {"model": choice.model, "photographs": choice.table, "number": len(pictures)}
    for name, aim in AIMS.items():
        ratios[name] = masked[name] / plain[name]
        print(f"{name}: {ratios[name]:.3f} times the plain attack's; aim: at most {aim:g}")
    title = f"Visible difference at equal score, with {choice.model}"
    print(save(f"seen-{choice.model}", title, {choice.table: [ratios]}, models=[choice.model], settings=about))


if __name__ == "__main__":
    main()
