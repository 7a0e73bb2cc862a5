"""Encoders that are given every picture blurred."""

import numpy as np
import pytest
import torch
from conftest import Checkpoints
from PIL import Image
from scipy.ndimage import gaussian_filter

from foclip.attacks import AttackTask, FoCLIP, make_plan, run
from foclip.data.images import to_tensor
from foclip.errors import EncoderError
from foclip.models import Encoder, load_encoder
from foclip.models.blurred import REACH, SHARE, BlurredEncoder
from foclip.models.scores import CLIPScore


@pytest.fixture(scope="module")
def blurred(mini: Encoder) -> BlurredEncoder:
    return BlurredEncoder(mini)


def test_it_is_the_encoder_of_the_blurred_picture(
    mini: Encoder, blurred: BlurredEncoder, small_photos: list[Image.Image]
) -> None:
    seen = [mini.preprocess.image(photo).float() / 255 for photo in small_photos]
    sigma = SHARE * min(mini.image_size)
    smooth = [gaussian_filter(each.numpy(), (0, sigma, sigma), mode="mirror", truncate=REACH) for each in seen]
    wanted = mini.embed(torch.from_numpy(np.stack(smooth)).clamp(0, 1))
    assert sigma == 1.5
    torch.testing.assert_close(blurred.embed(torch.stack(seen)), wanted, atol=2e-3, rtol=0)
    assert float((blurred.embed(torch.stack(seen)) - mini.embed(torch.stack(seen))).abs().max()) > 0.02


def test_texts_and_logits_are_those_of_the_encoder(mini: Encoder, blurred: BlurredEncoder) -> None:
    assert torch.equal(blurred.encode_texts(["a cat", "a dog"]), mini.encode_texts(["a cat", "a dog"]))
    assert (blurred.logits, blurred.parameter_count) == (mini.logits, mini.parameter_count)
    assert blurred.fingerprint != mini.fingerprint
    assert blurred.name == f"blurred:{mini.name}"


def test_it_compiles_and_blurs_in_float32(mini: Encoder, blurred: BlurredEncoder) -> None:
    lower = blurred.in_precision(torch.bfloat16)
    pixels = torch.rand(2, 3, *mini.image_size, generator=torch.Generator().manual_seed(0))
    smooth = blurred.blur(mini.preprocess.normalize(pixels))
    assert torch.equal(lower.embed(pixels), mini.in_precision(torch.bfloat16).tower(smooth))
    assert blurred.dtype is None
    assert blurred.in_precision(None, compiled=True).encoder.compiled


def test_any_encoder_may_be_named(checkpoints: Checkpoints, toys: None) -> None:
    assert load_encoder(f"blurred:{checkpoints['small-ViT']}", "cpu").image_size == (64, 64)
    assert load_encoder("blurred:toy-clip:3", "cpu").fingerprint != load_encoder("toy-clip:3", "cpu").fingerprint
    assert load_encoder("blurred:blurred:mini", "cpu").fingerprint == load_encoder("blurred:mini", "cpu").fingerprint
    with pytest.raises(EncoderError, match="unknown encoder 'nix'"):
        load_encoder("blurred:nix")


def test_one_that_sees_each_picture_in_another_shape_is_refused(mini: Encoder) -> None:
    other = mini.in_precision(None)
    other.fixed_size = False
    with pytest.raises(EncoderError, match="blurred:mini: it sees each picture in another shape"):
        BlurredEncoder(other)


@pytest.mark.slow
def test_attackers_who_know_of_the_blur_gain_less(
    score: CLIPScore, blurred: BlurredEncoder, small_photos: list[Image.Image]
) -> None:
    plan = make_plan(FoCLIP, steps=30, budgets="psnr:35")
    rises = []
    for each in (score, CLIPScore(blurred)):
        tasks = [
            AttackTask(to_tensor(photo), ("a photo of a dog.",), place) for place, photo in enumerate(small_photos)
        ]
        rises.append(np.mean([max(result.scores) - result.scores[0] for result in run(tasks, each, plan)]))
    assert 0 < rises[1] < 0.8 * rises[0]
