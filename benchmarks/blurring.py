"""What a blur in front of an encoder gains and costs: ``python -m benchmarks.blurring [--data ../shared/data]``.

For `mini` and its hardened version, and Gaussian blurs of several widths: how far attackers who know the blur raise the
score of such an encoder for the photograph's own caption, and the lower of that and `mini`'s score; and how these two
scores rank clean photographs and captions, compared with `mini`'s. 16 photographs fooled within 35 dB in 60 steps, 200
clean ones; none was trained on. Writes docs/figures/blurring.json.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.common import Table, fooled
from benchmarks.record import save
from benchmarks.robust import COMPARED, SLOTS, photographs
from foclip.attacks import FoCLIP, make_plan
from foclip.data import images
from foclip.models import Encoder, load_encoder
from foclip.models.batching import read_figures
from foclip.models.blurred import BlurredEncoder
from foclip.models.scorer import Scorer
from foclip.models.scores import CLIPScore, MinEnsemble
from foclip.outcome import mean

#: Encoders, the first of which is the one whose score is to be trusted; and widths of the blur, in pixels that it sees.
MODELS, WIDTHS = ("mini", "mini-robust"), (0.0, 0.75, 1.0, 1.25, 1.5, 2.0)
PHOTOS, STEPS, PSNR = 16, 60, 35


def rise(score: Scorer, pictures: Sequence[Image.Image], captions: Sequence[str]) -> float:
    """The mean rise of a score for each picture's own caption."""
    prompts = [(caption,) for caption in captions]
    plan = make_plan(FoCLIP, steps=STEPS, budgets=f"psnr:{PSNR}", batch_size=SLOTS)
    found = fooled(plan, score, [images.to_tensor(picture) for picture in pictures], prompts)
    targets = [score.encode_prompts(own) for own in prompts]
    after, before = (
        [mean(each) for each in read_figures(score, [*map(score.preprocess.image, some)], targets)]
        for some in ([images.to_image(pixels) for pixels in found], pictures)
    )
    return mean(after) - mean(before)


def main() -> None:
    """Print and record the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    choice = parser.parse_args()
    pictures, captions = photographs(choice.data, COMPARED, 1)
    victims, own = photographs(choice.data, PHOTOS, 0)
    first, table = load_encoder(MODELS[0]), Table()

    def cosines(encoder: Encoder) -> Tensor:
        return encoder.encode_pictures(pictures) @ encoder.encode_texts(captions).T

    wanted = cosines(first)
    for model in MODELS:
        encoder = load_encoder(model)
        for width in WIDTHS:
            seeing = BlurredEncoder(encoder, width / min(encoder.image_size)) if width else encoder
            found = cosines(seeing)
            lower = torch.minimum(found, wanted)
            row: dict[str, object] = {"encoder": model, "blur": width}
            row["rise"] = rise(CLIPScore(seeing), victims, own)
            row["rise of the lower"] = rise(MinEnsemble([CLIPScore(first), CLIPScore(seeing)]), victims, own)
            for name, each in (("", found), (" of the lower", lower)):
                row[f"share{name}"] = float(each.diag().mean() / wanted.diag().mean())
                row[f"ranks{name}"] = float(spearmanr(each.flatten(), wanted.flatten()).statistic)
            table.add(row)
    about = {"photos": PHOTOS, "steps": STEPS, "dB": PSNR, "clean": COMPARED}
    print(save("blurring", "What a blur gains and costs", {"rows": table}, models=MODELS, settings=about))


if __name__ == "__main__":
    main()
