"""Encoders that a study hardens itself, for a few steps, on crops of every other photo.

They are trained too briefly to be useful, but long enough to show what a radius costs and what it gains.
`foclip harden` does the same with any pictures and any number of steps.
"""

from foclip import files
from foclip.cache import Cache
from foclip.data import images
from foclip.hardening import HardenSettings, harden
from foclip.models import load_encoder
from foclip.models.scorer import EmbeddingScorer
from foclip.studies.harness.context import StudyContext
from foclip.studies.harness.pictures import Picture

#: Training steps of a quick run and of a full run, and pictures per step.
QUICK, FULL, BATCH = 40, 200, 16


def steps(context: StudyContext) -> int:
    """Training steps."""
    return QUICK if context.settings.quick else FULL


def held_out(context: StudyContext) -> list[Picture]:
    """Pictures that are not used for training."""
    return context.pictures[1::2]


def hardened_score(context: StudyContext, min_psnr: float) -> EmbeddingScorer:
    """The score over its own encoder, hardened against changes of `min_psnr` dB.

    The encoder is hardened once and cached. A run that was killed continues from its checkpoint.

    Raises:
        EncoderError: The encoder cannot be trained.
    """
    apart = {picture.photo for picture in held_out(context)}
    crops = [crop for crop in context.examples if crop.photo not in apart]
    settings = HardenSettings(
        min_psnr=min_psnr,
        steps=steps(context),
        batch_size=min(BATCH, max(1, len(crops) * 3 // 4)),  # some crops are held out as well
        seed=context.settings.seed,
        precision="float32",
        keep=-1,  # the study measures how much is lost, so nothing is refused
    )
    name = Cache.key(
        "hardened", context.score.fingerprint, [crop.digest for crop in crops], settings, context.score.device.type
    )
    folder = context.cache.path(name, "")
    if not (folder / "training.json").is_file():  # the file that is written last
        files.output_folder(folder / "pictures")
        for number, crop in enumerate(crops):
            images.write(crop.image, folder / "pictures" / f"{number:02d}.png")
        harden(
            context.score.encoder.name,
            [folder / "pictures"],
            folder,
            settings,
            device=str(context.score.device),
            attack_steps=1,
        )
    return context.score.with_encoder(load_encoder(f"local-dir:{folder}", str(context.score.device)))
