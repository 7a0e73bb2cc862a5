"""Pictures for the documentation: what probes do to a fooled picture, and how the score rises with what may be changed.

    python -m benchmarks.illustrations [--out docs]

`cascade.png` shows the demo's cat as `mini` sees it, and fooled for its own caption at 45 dB: under each probe of
`mini`'s detector, with its score there. `rise.png` shows the scores of the demo's four photos for their own captions,
fooled with 60 steps within budgets from 50 to 30 dB.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from benchmarks.common import fooled, mean_score
from foclip import demo
from foclip.attacks import make_plan
from foclip.data import images
from foclip.detection import hardened_scores
from foclip.detection.detector import shipped
from foclip.detection.probes import Prober
from foclip.detection.transformations import transformation
from foclip.models import load_encoder
from foclip.models.scores import CLIPScore
from foclip.reports import html

CAPTIONS = {
    "astronaut.png": "a photo of a woman in an orange space suit.",
    "chelsea.png": "a photo of a cat.",
    "coffee.png": "a photo of a cup of coffee on a table.",
    "rocket.jpg": "a photo of a rocket on its launch pad.",
}
CAT, STEPS, FAINT, BUDGETS = "chelsea.png", 60, 45, (50, 45, 40, 35, 30)


def main() -> None:
    """Make both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    out = parser.parse_args().out
    torch.set_num_threads(1)
    photos = {path.name: images.to_tensor(images.read(path)) for path in demo.photos()}
    cascade(CLIPScore(load_encoder("mini")), photos[CAT]).savefig(out / "cascade.png", dpi=110)
    rise(photos).savefig(out / "rise.png", dpi=110)


def within(budget: float, score: CLIPScore, photos: list[torch.Tensor], captions: list[str]) -> list[torch.Tensor]:
    """Photos fooled for a caption each, within so many dB."""
    return fooled(make_plan(steps=STEPS, budgets=f"psnr:{budget}"), score, photos, [(caption,) for caption in captions])


def cascade(score: CLIPScore, photo: torch.Tensor) -> Figure:
    """Original and fooled picture under each probe of the detector."""
    hardened, detector = hardened_scores(score), shipped(score.encoder)
    probes, caption = detector.combined.statistic.probes, CAPTIONS[CAT]
    (changed,) = within(FAINT, score, [photo], [caption])
    prober = Prober(score, hardened)
    views = [prober.preprocess(images.to_image(picture)) for picture in (photo, changed)]
    measured = prober.measure(views, [(caption,)] * 2, probes)
    plot = Figure(figsize=(1.35 * (len(probes) + 1), 3.6), layout="constrained")
    grid = plot.subplots(2, len(probes) + 1)
    for row, name, view, found in zip(grid, ("original", f"fooled, {FAINT} dB"), views, measured, strict=True):
        seen = images.to_image(view[0])
        for axes, probe in zip(row, ("as it is", *probes), strict=True):
            scored = found.score if probe == "as it is" else found.scores[probe]
            changes = probe != "as it is" and probe not in hardened
            axes.imshow(transformation(probe).exact(seen) if changes else seen)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.set_xlabel(f"{scored:.2f}", fontsize=10)
            if view is views[0]:
                axes.set_title(f"scored by\n{probe}" if probe in hardened else probe, fontsize=8)
        row[0].set_ylabel(name, fontsize=9)
    return plot


def rise(photos: dict[str, torch.Tensor]) -> Figure:
    """Scores for the own caption against the budget, of two encoders."""
    plot = Figure(figsize=(8.4, 3.0), layout="constrained")
    for axes, model in zip(plot.subplots(1, 2, sharey=True), ("mini", "mini-vit"), strict=True):
        score = CLIPScore(load_encoder(model))
        names, captions = list(photos), [CAPTIONS[name] for name in photos]
        reached = [within(budget, score, list(photos.values()), captions) for budget in BUDGETS]
        for place, name in enumerate(names):
            own = (captions[place],)
            scores = [mean_score(score, pictures[place], own) for pictures in ([*photos.values()], *reached)]
            axes.plot(range(len(scores)), scores, "o-", markersize=3.5, label=name.partition(".")[0])
        axes.set_xticks(range(len(BUDGETS) + 1), ["original", *(f"{budget} dB" for budget in BUDGETS)], fontsize=8)
        html.tidy(axes, model, "CLIPScore, own caption", legend=8)
    return plot


if __name__ == "__main__":
    main()
