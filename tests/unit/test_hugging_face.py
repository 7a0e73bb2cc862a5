"""Encoders of transformers: equal to the family's own processor and model, on tiny models with random weights."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional._geometry as geometry
import transformers
from calling import started
from conftest import Made, raw_scores_of
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import foclip
from foclip.core.attacking import Attacked
from foclip.data.images import read, to_tensor
from foclip.demo import photos
from foclip.errors import CheckpointWarning, EncoderError, PromptTruncationWarning, UsageError
from foclip.models import catalogue, hugging_face, load_encoder
from foclip.models.hugging_face import HuggingFaceEncoder
from foclip.models.processor import ProcessorPreprocess
from foclip.models.scores import CLIPScore, SigLIPScore
from foclip.perceptual.budget import parse

BACKENDS = ("torchvision", "pil")
#: Texts that are longer than each other, and one whose words no tokenizer knows.
TEXTS = ["a cat", "a photo of a dog in the dark", "zebra"]


@cache
def photo() -> Image.Image:
    return read(photos()[0])


def gray16(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L"), dtype=np.uint16) * 257)


#: Pictures as people have them, by what is special about each.
PICTURES: dict[str, Callable[[], Image.Image]] = {
    "RGB": lambda: photo().crop((100, 20, 273, 180)),
    "RGBA": lambda: with_alpha(photo().crop((60, 40, 250, 207))),
    "palette": lambda: photo().crop((0, 0, 121, 150)).quantize(64),
    "gray": lambda: photo().crop((10, 0, 201, 150)).convert("L"),
    "1 × 1": lambda: Image.new("RGB", (1, 1), "orange"),
    "37 × 911": lambda: photo().resize((37, 911)),
    "911 × 37": lambda: photo().resize((911, 37)),
    "odd crop": lambda: photo().resize((families.SIDE + 3, families.SIDE)),  # 3 columns too many: 1 or 2 on the left?
    "as it is": lambda: photo().resize((families.SIDE, families.SIDE)),
}


def with_alpha(picture: Image.Image) -> Image.Image:
    """A picture that fades out to the right."""
    picture = picture.copy()
    picture.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, picture.width).astype(np.uint8), (picture.height, 1))))
    return picture


def own_cosines(encoder: HuggingFaceEncoder, processor: Any, picture: Image.Image) -> Tensor:
    """Cosines (T,) of a picture with `TEXTS` by the family's own processor, tokenizer and forward pass."""
    model, fixed = encoder.model, encoder.model.config.model_type in ("siglip", "siglip2", "align", "tipsv2")
    padding = {"padding": "max_length" if fixed else True, "truncation": True, "max_length": encoder.context_length}
    inputs = dict(encoder.tokenizer(TEXTS, return_tensors="pt", **padding))
    seen = dict(processor(images=picture, return_tensors="pt", input_data_format="channels_last"))
    with torch.no_grad():
        if model.config.model_type == "blip":
            inputs.pop("token_type_ids")
            return torch.as_tensor(model(**inputs, **seen, use_itm_head=False).itm_score[0])
        if model.config.model_type not in ("align", "altclip", "chinese_clip"):
            inputs.pop("token_type_ids", None)
        found = model(**inputs, **seen)
    normal = torch.nn.functional.normalize
    return (normal(found.image_embeds, dim=-1) @ normal(found.text_embeds, dim=-1).T)[0]


def file_of(picture: Image.Image, folder: Path) -> Path:
    picture.save(folder / "picture.png")
    return folder / "picture.png"


def require_equal(encoder: HuggingFaceEncoder, path: Path, what: str) -> None:
    """Exact and differentiable similarity of a file against those of the family's own code."""
    processor, texts = encoder.preprocess._processor, encoder.encode_texts(TEXTS)
    picture = read(path)
    with Image.open(path) as opened:
        rgb_alone = encoder.model.config.model_type in ("align", "siglip2")  # their processors convert nothing
        wanted = own_cosines(encoder, processor, picture if rgb_alone else opened)
    exact = raw_scores_of(CLIPScore(encoder), picture, tuple(TEXTS))
    torch.testing.assert_close(exact, wanted, atol=1e-4, rtol=0, msg=lambda told: f"{what}, exact: {told}")
    with torch.no_grad():
        pixels = (encoder.embed(to_tensor(picture)[None] / 255) @ texts.T)[0]
    torch.testing.assert_close(pixels, wanted, atol=2e-3, rtol=0, msg=lambda told: f"{what}, differentiable: {told}")


#: Ways that are quick; the others go the same ones.
QUICK = [("clip", "torchvision"), ("clip", "pil"), ("siglip2", "torchvision"), ("siglip2-naflex", "torchvision")]
#: All families with all backends that transformers has for them; what is slow here goes ways that the others go, too.
WAYS = [
    pytest.param(family, own, marks=[] if (family, own) in QUICK else [pytest.mark.slow])
    for family in families.MAKERS
    for own in BACKENDS
    if (family, own) != ("tipsv2", "pil")
]


@pytest.mark.parametrize(("family", "backend"), WAYS)
def test_similarities_are_those_of_the_familys_own_code(made: Made, family: str, backend: str, tmp_path: Path) -> None:
    encoder = made(family, backend)
    assert encoder.preprocess.backend == backend
    assert encoder.preprocess.description.startswith(f"{type(encoder.preprocess._processor).__name__} by {backend} ")
    for what, picture in PICTURES.items():
        require_equal(encoder, file_of(picture(), tmp_path), what)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["clip", "siglip2"])
def test_so_are_those_of_a_large_photograph(made: Made, family: str, backend: str, tmp_path: Path) -> None:
    require_equal(made(family, backend), file_of(photo().resize((1500, 1000)), tmp_path), "1500 × 1000")


def test_sixteen_bits_are_scaled_where_pillow_clips(made: Made, tmp_path: Path) -> None:
    """A processor that is given a 16-bit file turns it white; ours is given its 8-bit version."""
    encoder, path = made("clip"), file_of(gray16(photo().crop((10, 0, 201, 150))), tmp_path)
    texts, processor = encoder.encode_texts(TEXTS), encoder.preprocess._processor
    exact = (encoder.embed(encoder.preprocess.image(read(path))[None]) @ texts.T)[0]
    torch.testing.assert_close(exact, own_cosines(encoder, processor, read(path)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["clip", "siglip2", "siglip2-naflex", "blip"])
def test_the_gradient_reaches_the_pixels(made: Made, family: str) -> None:
    pixels = (to_tensor(photo())[None] / 255).requires_grad_(True)
    encoder = made(family)
    (gradient,) = torch.autograd.grad((encoder.embed(pixels) @ encoder.encode_texts(TEXTS).T)[0, 0], pixels)
    assert gradient.abs().max() > 0


@pytest.mark.parametrize(("family", "backend"), [way for way in WAYS if way.values[1] == "torchvision"])
def test_a_fooled_file_is_one_for_the_familys_own_code(made: Made, family: str, backend: str, tmp_path: Path) -> None:
    encoder, before = made(family, backend), photo().crop((100, 20, 180, 90))
    processor = encoder.preprocess._processor
    sample, limit = foclip.Sample("photo", before, ("a cat",)), foclip.Constraint(budgets=(parse("psnr:30"),))
    (fooled,) = foclip.attack([sample], CLIPScore(encoder), constraint=limit, stop=foclip.Stopping(20))
    assert isinstance(fooled, Attacked)
    with Image.open(file_of(fooled.image, tmp_path)) as written:
        after = own_cosines(encoder, processor, written)[0]
    assert after > own_cosines(encoder, processor, before)[0] + 0.005


def test_detect_needs_a_detector_of_its_own(made: Made) -> None:
    with pytest.raises(UsageError, match="foclip calibrate"):
        foclip.detect([photo()], ["a cat"], model=CLIPScore(made("clip")))


def test_detect_needs_one_shape_of_input(made: Made) -> None:
    with pytest.raises(UsageError, match="each picture in another shape"):
        foclip.detect([photo()], ["a cat"], model=CLIPScore(made("siglip2-naflex")))


def test_pictures_of_several_shapes_share_a_pass(made: Made, small_photos: list[Image.Image]) -> None:
    scorers = {"clipscore": CLIPScore(made("siglip2-naflex")), "siglip": SigLIPScore(made("siglip2-naflex"))}
    together = foclip.score_by_several(small_photos, TEXTS, scorers=scorers)
    for photo, found in zip(small_photos, together, strict=True):
        for name, scorer in scorers.items():
            assert found.scores[name] == foclip.score(photo, TEXTS, model=scorer).results[0].score


def test_a_long_prompt_keeps_its_end_and_says_so(made: Made) -> None:
    encoder = made("clip")
    with pytest.warns(PromptTruncationWarning, match="1 of 2 prompts are longer than the 12 tokens"):
        encoder.encode_texts(["a cat", "a photo of a dog in the dark"])
    with pytest.warns(PromptTruncationWarning):
        tokens = hugging_face.read(encoder.tokenizer, ["a cat", "a photo of a dog in the dark"], "longest", 12, "clip")
    assert tokens["input_ids"].shape == (2, 12)
    assert tokens["input_ids"][1, -1] == encoder.tokenizer.eos_token_id


def test_a_text_that_is_padded_has_the_figure_of_its_own(made: Made) -> None:
    """SigLIP reads its result from the last place, which is padding; its processor would not pad a text alone."""
    for family in ("clip", "siglip", "altclip"):
        encoder = made(family)
        together = encoder.encode_texts(["a cat", "a dog in the dark"])
        torch.testing.assert_close(encoder.encode_texts(["a cat"])[0], together[0], atol=1e-6, rtol=0)
    siglip = made("siglip")
    tokens = hugging_face.read(siglip.tokenizer, ["a cat"], siglip.family.padding, siglip.context_length, "siglip")
    assert tokens["input_ids"].shape == (1, 16)


def test_capitals_are_warned_of_where_they_cost_accuracy(folder: Callable[[str], Path]) -> None:
    with pytest.warns(CheckpointWarning, match="taken as SiglipModel with 16 tokens.*bilinear.*lower case"):
        load_encoder(str(folder("siglip2-capitals")))
    with pytest.warns(CheckpointWarning) as caught:
        load_encoder(f"transformers:{folder('siglip2')}")
    assert "lower case" not in str(caught[0].message)


def test_fingerprints_tell_apart_what_scores_depend_on(made: Made) -> None:
    ways = [("clip", "pil"), *((name, "torchvision") for name in ("clip", "siglip", "siglip2", "siglip2-capitals"))]
    prints = [made(*way).fingerprint for way in ways]
    assert len({*prints}) == len(prints)


def test_a_resize_that_rounds_once_is_near_enough(made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the instructions for it, torchvision resizes bilinearly in float32 and rounds at the end."""
    monkeypatch.setattr(geometry, "_do_native_uint8_resize_on_cpu", lambda interpolation: False)
    for family in ("clip", "siglip2"):
        for what in ("RGB", "37 × 911"):
            require_equal(made(family), file_of(PICTURES[what](), tmp_path), what)


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_and_crops_of_odd_sizes_match(backend: str) -> None:
    sizes = [({"shortest_edge": 20}, 25), ({"height": 21, "width": 30}, 24), ({"shortest_edge": 35}, 24)]
    for size, crop in sizes:
        kind = transformers.CLIPImageProcessor if backend == "torchvision" else transformers.CLIPImageProcessorPil
        processor = kind(size=size, crop_size={"height": crop, "width": crop})
        ProcessorPreprocess(processor)  # it compares both versions itself
        for shape in ((40, 61), (61, 40), (7, 9)):
            rows, columns = ProcessorPreprocess(processor).region(*shape)
            assert 0 <= rows.start < rows.stop <= shape[0]
            assert 0 <= columns.start < columns.stop <= shape[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"do_resize": False},
        {"do_center_crop": False},
        {"resample": 0},
        {"size": {"shortest_edge": 32, "longest_edge": 40}},
        {"do_normalize": False, "do_rescale": False},
        {"do_pad": True, "pad_size": {"height": 40, "width": 40}},
    ],
)
def test_a_processor_that_cannot_be_matched_is_refused(settings: dict[str, Any]) -> None:
    processor = families._processor("CLIPImageProcessor", **settings)
    with pytest.raises(EncoderError, match=r"(makes no picture of one size|no differentiable version)"):
        ProcessorPreprocess(processor)


def changed_config(folder: Path, **settings: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def fewer_weights(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file(
        {key: value for key, value in state.items() if "visual_projection" not in key}, folder / "model.safetensors"
    )


def only_adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "openai/clip"}))


#: What is wrong with a folder, and what the line about it says.
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "architecture": (
        lambda folder: changed_config(folder, model_type="bert"),
        r"no dual encoder.*\(bert\); use clip, ",
    ),
    "remote code": (
        lambda folder: changed_config(folder, model_type="own", auto_map={"AutoModel": "modeling.Own"}),
        "trust_remote_code.*never run",
    ),
    "no weights": (no_weights, "no weights in this folder"),
    "fewer weights": (fewer_weights, "lack 1 of the model's parameters"),
    "other sizes": (lambda folder: changed_config(folder, projection_dim=7), "do not fit"),
    "adapter": (only_adapter, "an adapter of openai/clip, no model; merge"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "no processor": (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
    "damaged": (lambda folder: (folder / "model.safetensors").write_bytes(b"{}"), "transformers cannot load it"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_folder_that_is_no_model_is_one_line(what: str, folder: Callable[[str], Path], tmp_path: Path) -> None:
    spoil, told = WRONG[what]
    shutil.copytree(folder("clip"), tmp_path / "model")
    spoil(tmp_path / "model")
    with pytest.raises(EncoderError, match=told) as caught:
        load_encoder(str(tmp_path / "model"))
    assert str(caught.value).startswith(f"{tmp_path / 'model'}: ")
    assert "\n" not in str(caught.value)


def test_weights_in_half_precision_are_read_in_single(folder: Callable[[str], Path], tmp_path: Path) -> None:
    model = transformers.CLIPModel.from_pretrained(folder("clip")).half()
    shutil.copytree(folder("clip"), tmp_path / "half")
    model.save_pretrained(tmp_path / "half")
    with pytest.warns(CheckpointWarning):
        encoder = load_encoder(str(tmp_path / "half"))
    assert encoder.encode_texts(["a cat"]).dtype == torch.float32


def test_shards_are_read(folder: Callable[[str], Path], made: Made, tmp_path: Path) -> None:
    shutil.copytree(folder("clip"), tmp_path / "shards")
    (tmp_path / "shards" / "model.safetensors").unlink()
    made("clip").model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len([*(tmp_path / "shards").glob("*.safetensors")]) > 1
    with pytest.warns(CheckpointWarning):
        assert load_encoder(str(tmp_path / "shards")).fingerprint == made("clip").fingerprint


def test_names_that_transformers_loads(tmp_path: Path, folder: Callable[[str], Path]) -> None:
    names = {
        "openai/clip-vit-base-patch32": "openai/clip-vit-base-patch32",
        "transformers:a/b": "a/b",
        str(folder("clip")): str(folder("clip")),
        str(tmp_path): str(tmp_path),
        "ViT-B-32/openai": None,
        "ViT-B/32": None,
        "ViT-B-33/openai": None,  # a slip: open_clip's names are near
        "mini": None,
        "nosuch": None,
        "weights/own.pt": None,
        "hf-hub:a/b": None,
        "": None,
    }
    assert {name: catalogue.in_transformers(name) for name in names} == names


def test_a_repository_that_is_not_here_is_one_line() -> None:
    with pytest.raises(EncoderError, match=r"openai/clip-vit-base-patch32.*not on this machine.*pass its folder"):
        load_encoder("openai/clip-vit-base-patch32")


@pytest.mark.slow
def test_commands_load_it_as_named(folder: Callable[[str], Path], tmp_path: Path) -> None:
    """In a process of its own, which has imported open_clip as if transformers were not installed."""
    path, out, err = file_of(photo(), tmp_path), tmp_path / "out.json", tmp_path / "err.txt"
    for name in (str(folder("clip")), f"transformers:{folder('clip')}"):
        out.write_bytes(b"")
        err.write_bytes(b"")
        process = started("score", path, "--prompt", "a cat", "--model", name, "--json", out=out, err=err)
        process.join()
        assert process.exitcode == 0, err.read_text()
        assert "note: " in err.read_text()
        assert "taken as CLIPModel with 12 tokens" in err.read_text()
        (row,) = json.loads(out.read_text())
        assert 0 <= row["score"] <= 2.5
