"""Pictures for the documentation: how a picture is fooled, what probes do to it, and what may be changed for how much.

    python -m benchmarks.illustrations [--out docs]

`flow.png` follows the demo's cat from the photo to the file that is written and scored, fooled for ten artworks by the
default run. `cascade.png` shows it as `mini` sees it, and fooled for its own caption at 45 dB: under each probe of
`mini`'s detector, with its score there. `rise.png` shows the scores of the demo's four photos for their own captions,
fooled with 60 steps within budgets from 50 to 30 dB.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.common import fooled, mean_score
from foclip import demo
from foclip.attacks import default_plan, make_plan
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.detection import hardened_scores
from foclip.detection.detector import shipped
from foclip.detection.probes import Prober
from foclip.detection.transformations import transformation
from foclip.models import load_encoder
from foclip.models.batching import raw_scores, read_figures
from foclip.models.scores import CLIPScore
from foclip.reports import drawing

CAPTIONS = {
    "astronaut.png": "a photo of a woman in an orange space suit.",
    "chelsea.png": "a photo of a cat.",
    "coffee.png": "a photo of a cup of coffee on a table.",
    "rocket.jpg": "a photo of a rocket on its launch pad.",
}
CAT, STEPS, FAINT, BUDGETS = "chelsea.png", 60, 45, (50, 45, 40, 35, 30)


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    out = parser.parse_args().out
    torch.set_num_threads(1)
    photos = {path.name: images.to_tensor(images.read(path)) for path in demo.photos()}
    flow(CLIPScore(load_encoder("mini")), photos[CAT]).savefig(out / "flow.png", dpi=110)
    cascade(CLIPScore(load_encoder("mini")), photos[CAT]).savefig(out / "cascade.png", dpi=110)
    rise(photos).savefig(out / "rise.png", dpi=110)


def flow(score: CLIPScore, photo: torch.Tensor) -> Figure:
    """The stations of a picture that is fooled, in the order in which it passes them."""
    plan = default_plan(score)
    (changed,) = fooled(plan, score, [photo], [ARTWORKS])
    pixels = (photo / 255).requires_grad_()
    targets = [score.encode_prompts(ARTWORKS)]
    (raw,) = raw_scores(score, [score.preprocess.pixels(pixels[None])], targets, 1)
    (slope,) = torch.autograd.grad(raw.mean(), pixels)
    files = [images.to_image(picture) for picture in (photo, changed)]
    before, after = read_figures(score, [score.preprocess.image(file) for file in files], targets * 2)
    stations = [
        ("the photo", files[0]),
        ("what the model sees\n(resized, cropped)", images.to_image(score.preprocess.image(files[0]))),
        ("which way each pixel\nraises the scores", _around_gray(slope, 0.5 / float(slope.abs().quantile(0.999)))),
        (f"change after {plan.steps} steps\nwithin the budget, × 8", _around_gray((changed - photo.float()) / 255, 8)),
        ("the file that is written\n(8 bits a channel)", files[1]),
    ]
    plot = Figure(figsize=(12.5, 2.2))
    grid = plot.subplots(1, len(stations) + 1)
    plot.subplots_adjust(left=0.01, right=0.99, top=0.78, bottom=0.12, wspace=0.22)
    for axes, (title, picture) in zip(grid, stations, strict=False):
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(title, fontsize=9)
        arrow = {"arrowstyle": "->", "linewidth": 1.5}
        axes.annotate("", (1.2, 0.5), (1.03, 0.5), xycoords="axes fraction", arrowprops=arrow)
        axes.set_zorder(1)
    bars, places = grid[-1], range(len(ARTWORKS))
    bars.barh(places, after, color="tab:red")
    bars.barh(places, before, color="0.6")
    bars.set_title("its scores for ten artworks\n(gray: the photo's)", fontsize=9)
    bars.set_yticks([])
    drawing.tidy(bars)
    return plot


def _around_gray(change: torch.Tensor, times: float) -> Image.Image:
    """A signed change (3, H, W), enlarged; gray is none."""
    return images.to_image(((change * times + 0.5).clamp(0, 1) * 255).round().to(torch.uint8))


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
        drawing.tidy(axes, model, "CLIPScore, own caption", legend=8)
    return plot


if __name__ == "__main__":
    main()
