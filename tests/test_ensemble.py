import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor

from foclip.attacks import FoCLIP
from foclip.encoders import Encoder, Ensemble
from foclip.errors import UsageError
from foclip.fidelity import fidelity
from foclip.images import to_image, to_tensor
from foclip.prompts import ARTWORKS
from foclip.score import similarity


def tiny(seed: int, size: int) -> Encoder:
    """A small CLIP with random weights, an input size and a preprocessing of its own."""
    torch.manual_seed(seed)
    vision = {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "image_size": size}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(24, vision, text)
    preprocessing = {"size": (size, size), "resize_mode": "squash", "mean": (0.4,) * 3, "std": (0.3,) * 3}
    open_clip.set_model_preprocess_cfg(model, preprocessing)
    return Encoder(f"tiny-{size}", model, open_clip.get_tokenizer("ViT-B-32"))


@pytest.fixture(scope="module")
def members(mini: Encoder) -> tuple[Encoder, Encoder]:
    return mini, tiny(0, 40)


@pytest.fixture(scope="module")
def pictures(small_photos: list[Image.Image]) -> list[Tensor]:
    return [to_tensor(picture.resize((w, h))) for picture, w, h in zip(small_photos, (96, 80), (80, 110), strict=False)]


def test_its_cosine_is_the_mean_of_theirs(members: tuple[Encoder, Encoder], pictures: list[Tensor]) -> None:
    ensemble = Ensemble(members)
    texts = ensemble.encode_texts(ARTWORKS)
    pixels = pictures[0][None] / 255
    images = [to_image(picture) for picture in pictures]
    ours = [
        similarity(vectors, texts) for vectors in (ensemble.encode_images(pixels), ensemble.encode_pictures(images))
    ]
    theirs = [
        torch.stack([similarity(vectors, m.encode_texts(ARTWORKS)) for m, vectors in zip(members, each, strict=True)])
        for each in ([m.encode_images(pixels) for m in members], [m.encode_pictures(images) for m in members])
    ]
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b.mean(0), atol=1e-6)
    for vectors in (texts, ensemble.encode_images(pixels)):
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-5)


def test_every_member_is_fooled(members: tuple[Encoder, Encoder], pictures: list[Tensor]) -> None:
    ensemble = Ensemble(members)
    texts = ensemble.encode_texts(ARTWORKS[:3])
    attack = FoCLIP(steps=20, min_psnr=33.0)
    together = sorted(attack.run(ensemble, pictures, texts), key=lambda fooled: fooled.index)
    for fooled, original in zip(together, pictures, strict=True):
        assert fidelity(fooled.pixels, original).psnr >= 33.0
        for member in members:
            before, after = (
                member.encode_pictures([to_image(original), to_image(fooled.pixels)])
                @ member.encode_texts(ARTWORKS[:3]).T
            )
            assert after.mean() > before.mean() + 0.02, member.name
    (alone,) = attack.run(ensemble, pictures[1:], texts)
    assert torch.equal(alone.pixels, together[1].pixels)


def test_what_it_is_called_and_made_of(members: tuple[Encoder, Encoder]) -> None:
    ensemble, swapped = Ensemble(members), Ensemble(members[::-1])
    assert ensemble.name == "mini + tiny-40"
    assert ensemble.parameters == members[0].parameters + members[1].parameters
    fingerprints = {ensemble.fingerprint, swapped.fingerprint, members[0].fingerprint, members[1].fingerprint}
    assert len(fingerprints) == 4


def test_members_must_fit(mini: Encoder) -> None:
    with pytest.raises(UsageError, match="at least one"):
        Ensemble([])
    elsewhere = tiny(0, 40)
    elsewhere.device = torch.device("meta")
    with pytest.raises(UsageError, match="tiny-40 on meta"):
        Ensemble([mini, elsewhere])
