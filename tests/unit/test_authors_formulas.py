"""Scores that people trust: each equal to its authors' formula, written out here anew, on random weights."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import families
import open_clip
import pytest
import torch
import torch.nn.functional as F
import transformers
from conftest import Checkpoints, Made, raw_scores_of, scores_of
from PIL import Image, ImageEnhance
from torch import Tensor, nn
from torchvision.transforms import functional as transforms

from foclip.data.images import read, to_tensor
from foclip.demo import photos
from foclip.errors import UsageError
from foclip.models import Encoder, OpenClipEncoder, available, load, load_encoder
from foclip.models.hugging_face import HuggingFaceEncoder
from foclip.models.preprocess import CLIP_MEAN, CLIP_STD
from foclip.models.scores import Aesthetic, CLIPScore, HPSv2, PickScore, SigLIPScore
from foclip.models.scores.blip import BLIPMatching
from foclip.models.scores.imagereward import MEAN, STD, ImageReward

PROMPTS = ("a cat", "a photo of a dog")


def test_a_prefix_is_part_of_the_prompt_and_of_the_fingerprint(mini: Encoder, small_photos: list[Image.Image]) -> None:
    plain, prefixed = CLIPScore(mini), CLIPScore(mini, prefix="A photo depicts")
    found = scores_of(prefixed, small_photos[0], ("a cat",))
    assert found == scores_of(plain, small_photos[0], ("A photo depicts a cat",))
    assert found != scores_of(plain, small_photos[0], ("a cat",))
    assert prefixed.fingerprint != plain.fingerprint
    assert CLIPScore(mini, prefix=" ").fingerprint == plain.fingerprint


def test_siglip_is_the_probability_of_the_pair(made: Made, small_photos: list[Image.Image]) -> None:
    encoder = made("siglip")
    texts = encoder.tokenizer(list(PROMPTS), padding="max_length", max_length=16, return_tensors="pt")
    for photo in small_photos[:2]:
        pixels = encoder.preprocess._processor(images=photo, return_tensors="pt")["pixel_values"]
        wanted = torch.sigmoid(encoder.model(**texts, pixel_values=pixels).logits_per_image[0])
        torch.testing.assert_close(raw_scores_of(SigLIPScore(encoder), photo, PROMPTS), wanted, atol=1e-4, rtol=0)


def test_siglip_needs_a_bias(mini: Encoder) -> None:
    with pytest.raises(UsageError, match=r"has no bias.*siglip2-base"):
        SigLIPScore(mini)


def test_pickscore_is_clips_logit(made: Made, small_photos: list[Image.Image]) -> None:
    encoder = made("clip")
    scorer, texts = PickScore(encoder), encoder.tokenizer(list(PROMPTS[:1]), return_tensors="pt")
    for photo in small_photos[:2]:
        pixels = encoder.preprocess._processor(images=photo, return_tensors="pt")["pixel_values"]
        wanted = float(encoder.model(**texts, pixel_values=pixels).logits_per_image)
        assert scores_of(scorer, photo, PROMPTS[:1])[0] == pytest.approx(max(wanted, 0), abs=1e-4)


@pytest.fixture(scope="module")
def hps(checkpoints: Checkpoints) -> HPSv2:
    with pytest.warns(UserWarning, match="taken as"):
        return HPSv2(load_encoder(f"small-ViT/{checkpoints['small-ViT']}", "cpu"))


@pytest.mark.parametrize("size", [(173, 160), (50, 301), (64, 64), (64, 40), (30, 20), (1, 1)])
def test_hps_resizes_in_floating_point_and_pads_before_normalising(
    hps: HPSv2, small_photos: list[Image.Image], size: tuple[int, int]
) -> None:
    photo, model = small_photos[1].resize(size), hps.encoder.model  # type: ignore[attr-defined]
    pixels, side = to_tensor(photo) / 255, 64
    scale = side / max(pixels.shape[1:])
    shape = [round(length * scale) for length in pixels.shape[1:]]
    if scale != 1:
        pixels = transforms.resize(pixels, shape, transforms.InterpolationMode.BICUBIC)
    down, across = side - shape[0], side - shape[1]
    pixels = transforms.pad(pixels, [across // 2, down // 2, across - across // 2, down - down // 2])
    seen = transforms.normalize(pixels, list(CLIP_MEAN), list(CLIP_STD))[None]
    tokens = hps.encoder.tokenizer(list(PROMPTS))  # type: ignore[attr-defined]
    with torch.no_grad():
        wanted = (model.encode_image(seen, normalize=True) @ model.encode_text(tokens, normalize=True).T)[0]
    torch.testing.assert_close(raw_scores_of(hps, photo, PROMPTS), wanted, atol=1e-5, rtol=0)


def head_file(path: Path, relu: bool) -> tuple[Path, nn.Sequential]:
    """A head as its authors save it, for embeddings of 64 numbers, and the same without what does nothing."""
    torch.manual_seed(1)
    layers = [nn.Linear(inside, outside) for inside, outside in pairwise((64, 32, 16, 8, 4, 1))]
    places = (0, 3, 6, 9, 11) if relu else (0, 2, 4, 6, 7)  # dropout after the first three, in between activations
    named = {
        f"layers.{place}.{name}": value
        for place, layer in zip(places, layers, strict=True)
        for name, value in layer.state_dict().items()
    }
    torch.save(named, path)
    between = [nn.ReLU()] if relu else []
    return path, nn.Sequential(*(part for layer in layers[:-1] for part in (layer, *between)), layers[-1])


@pytest.mark.parametrize("relu", [False, True])
def test_aesthetic_is_the_heads_figure_of_the_unit_embedding(
    checkpoints: Checkpoints, small_photos: list[Image.Image], tmp_path: Path, relu: bool
) -> None:
    path, head = head_file(tmp_path / "head.pth", relu)
    with pytest.warns(UserWarning, match="taken as"):
        scorer = load(f"aesthetic:{path}", f"small-ViT/{checkpoints['small-ViT']}", device="cpu")
    assert isinstance(scorer, Aesthetic)
    for photo in small_photos[:2]:
        embedding = scorer.encoder.embed(scorer.preprocess.image(photo)[None])
        found = raw_scores_of(scorer, photo, ())
        torch.testing.assert_close(found * 10, head(embedding)[0], atol=1e-5, rtol=0)


def test_a_linear_head_has_no_numbers(mini: Encoder, tmp_path: Path, small_photos: list[Image.Image]) -> None:
    width = mini.encode_texts(["a"]).shape[1]
    layer = nn.Linear(width, 1)
    torch.save(layer.state_dict(), tmp_path / "linear.pth")
    scorer = Aesthetic(mini, tmp_path / "linear.pth")
    wanted = layer(mini.embed(mini.preprocess.image(small_photos[0])[None]))[0]
    torch.testing.assert_close(raw_scores_of(scorer, small_photos[0], ()) * 10, wanted, atol=1e-5, rtol=0)


def test_a_head_that_is_none_is_one_line(mini: Encoder, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1, 7)}, tmp_path / "narrow.pth")
    torch.save({"weight": torch.zeros(2, 7)}, tmp_path / "two.pth")
    torch.save({"a.0.weight": torch.zeros(3, 7), "a.1.weight": torch.zeros(1, 4)}, tmp_path / "broken.pth")
    for name, told in (("narrow", "embeddings of 7"), ("two", "one figure"), ("broken", "linear layers")):
        with pytest.raises(UsageError, match=told):
            Aesthetic(mini, tmp_path / f"{name}.pth")
    with pytest.raises(UsageError, match="give the head for mini-vit, --score aesthetic:HEAD_FILE"):
        load("aesthetic", "mini-vit")


def test_the_head_of_mini_tells_colourful_pictures(mini: Encoder, small_photos: list[Image.Image]) -> None:
    scorer = load("aesthetic", mini)
    for photo in small_photos[:1]:
        figures = [scores_of(scorer, ImageEnhance.Color(photo).enhance(amount), ())[0] for amount in (0, 0.5, 1.5)]
        assert figures == sorted(figures)


def test_blip_matching_is_the_heads_probability(made: Made, small_photos: list[Image.Image]) -> None:
    encoder = made("blip")
    scorer = BLIPMatching.load(encoder, torch.device("cpu"))
    for photo in small_photos[:2]:
        pixels = encoder.preprocess._processor(images=photo, return_tensors="pt")["pixel_values"]
        for prompt in PROMPTS:
            words = encoder.tokenizer([prompt], padding="max_length", max_length=35, return_tensors="pt")
            words.pop("token_type_ids")
            wanted = encoder.model(**words, pixel_values=pixels).itm_score.softmax(dim=-1)[0, 1]
            found = raw_scores_of(scorer, photo, (prompt,))[0]
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_blip_matching_needs_a_blip(mini: Encoder) -> None:
    with pytest.raises(UsageError, match="cannot match; pass --model Salesforce/blip-itm-base-coco"):
        load("blip-itm", mini)


@pytest.fixture(scope="session")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return families.image_reward(tmp_path_factory.mktemp("reward"))


def own_reward(state: dict[str, Tensor], pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """ImageReward of normalised pictures (B, 3, 32, 32) and one text, from its authors' description."""

    def linear(name: str, values: Tensor) -> Tensor:
        return F.linear(values, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, values: Tensor, eps: float) -> Tensor:
        return F.layer_norm(values, values.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    def attend(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | float = 0.0) -> Tensor:
        weights: Tensor = (query @ key.mT / query.shape[-1] ** 0.5 + hidden).softmax(dim=-1)  # one head of 64
        return weights @ value

    image, text = "blip.visual_encoder", "blip.text_encoder"
    patches = F.conv2d(pixels, state[f"{image}.patch_embed.proj.weight"], state[f"{image}.patch_embed.proj.bias"], 8)
    seen = torch.cat([state[f"{image}.cls_token"].expand(len(pixels), -1, -1), patches.flatten(2).mT], dim=1)
    seen = seen + state[f"{image}.pos_embed"]
    for place in range(2):
        block = f"{image}.blocks.{place}"
        parts = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", seen, 1e-6)).chunk(3, dim=-1)
        seen = seen + linear(f"{block}.attn.proj", attend(*parts))
        inner = F.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", seen, 1e-6)))
        seen = seen + linear(f"{block}.mlp.fc2", inner)
    seen = norm(f"{image}.norm", seen, 1e-6)
    words, places = (state[f"{text}.embeddings.{name}_embeddings.weight"] for name in ("word", "position"))
    read = norm(f"{text}.embeddings.LayerNorm", words[ids] + places[: len(ids)], 1e-12).expand(len(pixels), -1, -1)
    hidden = (1 - mask.float()) * torch.finfo(torch.float32).min
    for place in range(2):
        layer = f"{text}.encoder.layer.{place}"
        for kind, source, own in (("attention", None, hidden), ("crossattention", seen, 0.0)):
            over = read if source is None else source
            query, key, value = (
                linear(f"{layer}.{kind}.self.{name}", values)
                for name, values in (("query", read), ("key", over), ("value", over))
            )
            found = linear(f"{layer}.{kind}.output.dense", attend(query, key, value, own))
            read = norm(f"{layer}.{kind}.output.LayerNorm", found + read, 1e-12)
        found = linear(f"{layer}.output.dense", F.gelu(linear(f"{layer}.intermediate.dense", read)))
        read = norm(f"{layer}.output.LayerNorm", found + read, 1e-12)
    features = read[:, 0]
    for name in ("0", "2", "4", "6", "7"):
        features = linear(f"mlp.layers.{name}", features)
    return (features[:, 0] - MEAN) / STD


def test_imagereward_is_its_authors_network(reward: Path, small_photos: list[Image.Image]) -> None:
    scorer = load("imagereward", str(reward), device="cpu")
    assert isinstance(scorer, ImageReward)
    state = torch.load(reward / "ImageReward.pt")
    found, wanted = [], []
    for photo in small_photos[:2]:
        short = min(photo.size)
        resized = photo.resize([int(32 * side / short) for side in photo.size], Image.Resampling.BICUBIC)
        pixels = to_tensor(transforms.center_crop(resized, [32, 32])) / 255
        seen = transforms.normalize(pixels, list(CLIP_MEAN), list(CLIP_STD))[None]
        for prompt in PROMPTS:
            words = scorer._tokenizer(prompt, padding="max_length", max_length=35, truncation=True, return_tensors="pt")
            wanted.append(own_reward(state, seen, words["input_ids"][0], words["attention_mask"][0]))
        found += scores_of(scorer, photo, PROMPTS)
    torch.testing.assert_close(torch.tensor(found), torch.cat(wanted), atol=1e-4, rtol=0)


AUTHORS = json.loads((Path(__file__).parents[1] / "real" / "authors.json").read_text())


def authors_pictures() -> list[Image.Image]:
    """The pictures of `real/authors.py`."""
    boxes = ((100, 20, 260, 180), (60, 40, 250, 200), (200, 100, 360, 330), (150, 80, 310, 240), (0, 0, 90, 41))
    return [read(photos()[place % 4]).crop(box) for place, box in enumerate(boxes)]


def test_imagereward_has_the_figures_of_its_authors_package(reward: Path) -> None:
    scorer = load("imagereward", str(reward), device="cpu")
    found = [scores_of(scorer, picture, tuple(AUTHORS["prompts"])) for picture in authors_pictures()]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(AUTHORS["imagereward"]), atol=1e-4, rtol=0)


def test_hps_has_the_figures_of_its_authors_package() -> None:
    model = families.drawn(open_clip.CLIP(64, families.HPS_VISION, families.HPS_TEXT))
    open_clip.set_model_preprocess_cfg(model, {"size": (64, 64), "mean": CLIP_MEAN, "std": CLIP_STD})
    scorer = HPSv2(OpenClipEncoder("small", model, open_clip.get_tokenizer("ViT-H-14")))
    found = [raw_scores_of(scorer, picture, tuple(AUTHORS["prompts"])) for picture in authors_pictures()]
    torch.testing.assert_close(torch.stack(found), torch.tensor(AUTHORS["hpsv2"]), atol=1e-4, rtol=0)


def by_pillow(kind: str) -> Any:
    """The image processor that the authors' version of transformers has, at the tiny models' size."""
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    if kind.startswith("Blip"):
        sizes = {"size": {"height": 32, "width": 32}}
    return getattr(transformers, kind)(**sizes)


def test_pickscore_has_the_figures_of_its_authors_code() -> None:
    model, _, tokenizer = families.pickscore()
    scorer = PickScore(HuggingFaceEncoder("small", model, by_pillow("CLIPImageProcessorPil"), tokenizer))
    with pytest.warns(UserWarning, match="longer than the 12 tokens"):
        raw = [raw_scores_of(scorer, picture, tuple(AUTHORS["prompts"])) for picture in authors_pictures()]
    torch.testing.assert_close(
        torch.stack(raw) * scorer.info.scale, torch.tensor(AUTHORS["pickscore"]), atol=1e-5, rtol=0
    )


def test_blip_matching_has_the_figures_of_its_authors_code() -> None:
    """Of BLIP's repository and of transformers; LAVIS begins a text with another token, which makes a difference."""
    model, _, tokenizer = families.blip_matching()
    encoder = HuggingFaceEncoder("small", model, by_pillow("BlipImageProcessorPil"), tokenizer)
    scorer = BLIPMatching.load(encoder, torch.device("cpu"))
    found = [raw_scores_of(scorer, picture, tuple(AUTHORS["prompts"])) for picture in authors_pictures()]
    torch.testing.assert_close(torch.stack(found), torch.tensor(AUTHORS["blip-itm [CLS]"]), atol=1e-5, rtol=0)
    assert (torch.stack(found) - torch.tensor(AUTHORS["blip-itm [ENC]"])).abs().min() > 1e-4


def test_imagereward_needs_its_weights(mini: Encoder, reward: Path, tmp_path: Path) -> None:
    for model in (mini, "mini", str(tmp_path)):
        with pytest.raises(UsageError, match=r"pass --model FOLDER with ImageReward\.pt"):
            load("imagereward", model)
    state = torch.load(reward / "ImageReward.pt")
    del state["blip.visual_encoder.norm.weight"]
    torch.save(state, tmp_path / "ImageReward.pt")
    with pytest.raises(UsageError, match="no weights of ImageReward"):
        load("imagereward", str(tmp_path))


def test_all_are_listed() -> None:
    wanted = [
        "clipscore",
        "clip-iqa",
        "siglip",
        "pickscore",
        "hpsv2",
        "hpsv2.1",
        "aesthetic",
        "blip-itm",
        "imagereward",
        "vqascore",
    ]
    assert available()[: len(wanted)] == wanted
