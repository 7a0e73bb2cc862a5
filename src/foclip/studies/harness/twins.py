"""Encoders that are hardened in a study, for a few steps, on crops of every other photo.

Too short to be of use, and long enough to see what a radius buys and costs: `foclip harden` is the
same with your pictures and as many steps as you like.
"""

from foclip import files
from foclip.cache import Cache
from foclip.data import images
from foclip.hardening import Settings, harden
from foclip.models import load_encoder
from foclip.models.scores import EmbeddingScore
from foclip.studies.harness.context import StudyContext
from foclip.studies.harness.pictures import Picture

#: Updates of the weights, in a quick run and in a full one; and pictures per update.
QUICK, FULL, BATCH = 40, 200, 16


def steps(lab: StudyContext) -> int:
    """Updates of the weights."""
    return QUICK if lab.settings.quick else FULL


def held_out(lab: StudyContext) -> list[Picture]:
    """Pictures that nothing here is trained on."""
    return lab.pictures[1::2]


def hardened(lab: StudyContext, min_psnr: float) -> EmbeddingScore:
    """The score over its encoder, hardened against changes of `min_psnr` dB; made once, and goes on after a kill.

    Raises:
        EncoderError: The encoder cannot be trained.
    """
    apart = {picture.photo for picture in held_out(lab)}
    crops = [crop for crop in lab.examples if crop.photo not in apart]
    settings = Settings(
        min_psnr=min_psnr,
        steps=steps(lab),
        batch_size=min(BATCH, max(1, len(crops) * 3 // 4)),  # some of the crops are held out, too
        seed=lab.settings.seed,
        precision="float32",
        keep=-1,  # what it costs is what is asked
    )
    name = Cache.key("twin", lab.score.fingerprint, [crop.digest for crop in crops], settings, lab.score.device.type)
    folder = lab.store.path(name, "")
    if not (folder / "training.json").is_file():  # what is written last
        files.output_folder(folder / "pictures")
        for number, crop in enumerate(crops):
            images.write(crop.image, folder / "pictures" / f"{number:02d}.png")
        harden(
            lab.score.encoder.name,
            [folder / "pictures"],
            folder,
            settings,
            device=str(lab.score.device),
            attack_steps=1,
        )
    return lab.score.over(load_encoder(f"local-dir:{folder}", str(lab.score.device)))
