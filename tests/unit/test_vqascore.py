"""VQAScore: equal to its authors' formula over transformers' own processor and network, on a tiny LLaVA-1.5."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import call
from conftest import Made, raw_scores_of, raw_scores_of_pixels
from PIL import Image
from torch import Tensor
from transformers import LlavaImageProcessor, LlavaImageProcessorPil

from foclip.data.images import read, to_tensor
from foclip.demo import photos
from foclip.errors import EncoderError, ImageError, UsageError
from foclip.models import Encoder, load
from foclip.models.processor import SquarePreprocess
from foclip.models.scores.vqascore import VQAScore

PROMPTS = ("a cat", "a photo of a dog in the dark")
#: Sizes of pictures: wide, tall, with an odd difference, square, larger than what the model sees in one way alone.
SIZES = [(173, 100), (80, 191), (37, 911), (64, 64), (40, 21), (1, 1)]


@pytest.fixture(scope="module")
def scorer(folder: Callable[[str], Path]) -> VQAScore:
    found = load("vqascore", str(folder("llava")), device="cpu")
    assert isinstance(found, VQAScore)
    return found


def authors_figure(scorer: VQAScore, picture: Image.Image, prompt: str, processor: Any) -> Tensor:
    """As t2v_metrics has it for LLaVA-1.5: exp of minus the mean cross-entropy of "Yes" and the end after it."""
    tokenizer, network = scorer._tokenizer, scorer._network
    system = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    question = f'{system} USER: <image>\nDoes this figure show "{prompt}"? Please answer yes or no. ASSISTANT: '

    def ids(text: str) -> list[int]:
        (begin, *first), (_, *second) = (tokenizer(part).input_ids for part in text.split("<image>"))
        assert begin == tokenizer.bos_token_id
        return [begin, *first, *[network.config.image_token_id] * network.config.image_seq_length, *second]

    whole = torch.tensor([ids(f"{question}Yes</s>")])
    labels = whole.clone()
    labels[:, : len(ids(question)) - 1] = -100  # the space at the end of the question is a part of the answer
    seen = processor(images=picture, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return torch.as_tensor((-network(input_ids=whole, pixel_values=seen, labels=labels).loss).exp())


def padding(scorer: VQAScore, kind: Any = LlavaImageProcessor) -> Any:
    """The family's own processor, which pads if it is told to."""
    own = scorer.preprocess._processor
    return kind(do_pad=True, size=dict(own.size), crop_size=dict(own.crop_size))


def close(found: Tensor, wanted: Tensor, atol: float) -> None:
    """Logarithms, since a random network answers "Yes" once in hundreds; those of probabilities differ by more."""
    torch.testing.assert_close(found.log(), wanted.log(), atol=atol, rtol=0)


@pytest.mark.parametrize("size", [SIZES[0], *(pytest.param(size, marks=pytest.mark.slow) for size in SIZES[1:])])
def test_it_is_the_authors_figure(scorer: VQAScore, size: tuple[int, int]) -> None:
    picture, processor = read(photos()[0]).crop((100, 20, 300, 180)).resize(size), padding(scorer)
    wanted = torch.stack([authors_figure(scorer, picture, prompt, processor) for prompt in PROMPTS])
    close(raw_scores_of(scorer, picture, PROMPTS), wanted, 1e-4)
    with torch.no_grad():
        (pixels,) = raw_scores_of_pixels(scorer, [to_tensor(picture) / 255], [PROMPTS], 1)
    close(pixels[0], wanted, 2e-3)


def test_pillows_processor_is_followed_too(scorer: VQAScore) -> None:
    picture, processor = read(photos()[0]).crop((100, 20, 273, 120)), padding(scorer, LlavaImageProcessorPil)
    other = VQAScore("other", scorer._network, processor, scorer._tokenizer, scorer.device)
    assert other.preprocess.backend == "pil" != scorer.preprocess.backend
    close(raw_scores_of(other, picture, PROMPTS[:1])[0], authors_figure(scorer, picture, PROMPTS[0], processor), 1e-4)
    assert other.fingerprint != scorer.fingerprint


@pytest.mark.slow
def test_a_fooled_file_is_one_for_the_familys_own_code(scorer: VQAScore, tmp_path: Path) -> None:
    read(photos()[0]).crop((100, 20, 190, 90)).save(tmp_path / "a.png")
    words = ("--score", "vqascore", "--model", scorer.model, "--prompt", PROMPTS[0])
    outcome = call("fool", tmp_path / "a.png", *words, "--steps", 20, "--min-psnr", 30, "--out", tmp_path, "--json")
    (result,) = outcome.rows
    before, after = (
        float(authors_figure(scorer, Image.open(path), PROMPTS[0], padding(scorer)))
        for path in (tmp_path / "a.png", result["output"])
    )
    assert after > 1.05 * before
    assert result["score_after"] == pytest.approx(after, rel=1e-3)
    assert "vqascore has no embedding" in call("detect", tmp_path / "a.png", *words).error


def test_what_answers_no_question_is_refused(scorer: VQAScore, mini: Encoder, made: Made, tmp_path: Path) -> None:
    for model in ("mini", mini, made("clip")):
        with pytest.raises(UsageError, match=r"answers no questions; pass --model llava-hf/llava-1\.5-7b-hf"):
            load("vqascore", model)
    with pytest.raises(EncoderError, match=r"no LLaVA-1\.5 \(clip over"):
        load("vqascore", str(Path(scorer.model).parent / "clip"))
    shutil.copytree(scorer.model, tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config["text_config"]["model_type"] = "qwen2"
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match=r"no LLaVA-1\.5 \(llava over qwen2\)"):
        load("vqascore", str(tmp_path / "other"))
    with pytest.raises(UsageError, match=r"vqascore: a prompt of \d+ tokens, and .* reads at most \d+"):
        scorer.encode_prompts(["cat " * 600])
    with pytest.raises(ImageError, match="its square"):
        SquarePreprocess(scorer.preprocess._processor).image(Image.new("RGB", (10_001, 21)))


def test_what_is_padded_is_told(scorer: VQAScore) -> None:
    assert scorer.preprocess.description.startswith("padded to a square, CLIPImageProcessor by torchvision")
    assert scorer.preprocess.region(30, 50) == (slice(0, 30), slice(0, 50))
    assert math.isclose(scorer.preprocess.pixels(torch.zeros(1, 3, 1, 99))[0, 0, 0, 0], 122 / 255, abs_tol=1e-6)
