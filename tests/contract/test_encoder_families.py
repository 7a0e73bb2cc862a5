"""Every family of encoders keeps what `foclip.models.encoder.Encoder` promises."""

import pickle
from collections.abc import Sequence

import pytest
import torch
from conftest import Checkpoints
from PIL import Image

from foclip.errors import EncoderError, UsageError
from foclip.models import Encoder, embedded, load_encoder, register_encoder
from foclip.models.registry import schemes

NAMES = ("mini", "mini-vit", "mini-robust-46", "local-dir", "file", "toy-clip:7", "blurred:mini", "blurred:toy-clip:7")


@pytest.fixture(scope="module", params=NAMES)
def encoder(request: pytest.FixtureRequest, toys: None, checkpoints: Checkpoints) -> Encoder:
    special = {"local-dir": f"local-dir:{embedded.path('mini')}", "file": str(checkpoints["small-ViT"])}
    return load_encoder(special.get(request.param, request.param), "cpu")


def test_pictures_and_texts_become_unit_vectors_of_one_space(encoder: Encoder, small_photos: list[Image.Image]) -> None:
    pictures = encoder.embed(torch.stack([encoder.preprocess.image(photo) for photo in small_photos]))
    texts = encoder.encode_texts(["a photo of a cat.", "a dog"])
    assert pictures.shape[1] == texts.shape[1]
    for vectors in (pictures, texts):
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_pixels_of_any_size_are_embedded_differentiably(encoder: Encoder) -> None:
    pixels = torch.rand(1, 3, 61, 83, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(encoder.embed(pixels)[0, 0], pixels)
    assert gradient.abs().max() > 0


def test_the_file_and_its_pixels_agree(encoder: Encoder, small_photos: list[Image.Image]) -> None:
    image = encoder.preprocess.image(small_photos[0])
    exact, pixels = encoder.embed(image[None]), encoder.embed(image[None].float() / 255)
    torch.testing.assert_close(exact, pixels, atol=1e-4, rtol=0)


def test_no_parameter_wants_a_gradient(encoder: Encoder) -> None:
    assert not encoder.encode_texts(["a"]).requires_grad
    assert encoder.parameter_count > 0


def test_lower_precision_is_a_view_on_the_same_weights(encoder: Encoder) -> None:
    lower = encoder.in_precision(torch.bfloat16)
    seen = torch.rand(2, 3, *encoder.image_size, generator=torch.Generator().manual_seed(0))
    assert encoder.dtype is None
    assert lower.fingerprint == encoder.fingerprint
    torch.testing.assert_close(lower.embed(seen), encoder.embed(seen), atol=0.1, rtol=0)


def test_it_crosses_processes(encoder: Encoder) -> None:
    assert pickle.loads(pickle.dumps(encoder)).fingerprint == encoder.fingerprint


def test_prompts_are_a_list(encoder: Encoder) -> None:
    wrong: Sequence[str]
    for wrong in ("a cat", []):
        with pytest.raises(UsageError, match="give a list of prompts"):
            encoder.encode_texts(wrong)


def test_another_package_brings_a_family(toys: None) -> None:
    assert "toy-clip" in schemes()
    with pytest.raises(EncoderError, match="write toy-clip:SEED"):
        load_encoder("toy-clip:seven")


def test_a_scheme_is_taken_once() -> None:
    with pytest.raises(UsageError, match="there is a 'local-dir' already"):
        register_encoder("local-dir")(lambda name, device: None)
