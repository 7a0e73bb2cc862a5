import copy
import http.server
import json
import logging
import os
import re
import shutil
import socket
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest
import torch
from conftest import SMALL, Checkpoints
from PIL import Image
from safetensors.torch import save_file

from foclip import models
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.errors import CheckpointWarning, EncoderError, PromptTruncationWarning, UsageError
from foclip.models import Encoder, OpenClipEncoder, catalogue, embedded, load_encoder, remote, surroundings
from foclip.models.batching import embeddings, raw_scores
from foclip.models.checkpoints import TOKENS
from foclip.models.preprocess import Preprocess
from foclip.models.scores import CLIPScore


def opened(name: str) -> OpenClipEncoder:
    encoder = load_encoder(name)
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


@pytest.fixture(scope="session", params=["mini", "mini-vit", *SMALL])
def encoder(request: pytest.FixtureRequest, checkpoints: Checkpoints) -> OpenClipEncoder:
    name = request.param
    return opened(f"{name}/{checkpoints[name]}" if name in SMALL else name)


@pytest.mark.slow
def test_frozen_and_in_evaluation_mode(encoder: OpenClipEncoder) -> None:
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_preprocessing_agrees_with_the_models_own(encoder: OpenClipEncoder, photo_files: list[Path]) -> None:
    pictures = [images.read(path) for path in photo_files]
    texts = encoder.encode_texts(ARTWORKS)
    theirs = encoder.encode_pictures(pictures) @ texts.T
    seen = [encoder.preprocess.pixels(images.to_tensor(picture)[None] / 255) for picture in pictures]
    ours = encoder.embed(torch.cat(seen)) @ texts.T
    assert (ours - theirs).abs().max() <= 0.002


def test_differentiable_at_any_size(encoder: OpenClipEncoder) -> None:
    for height, width in ((50, 300), (17, 9), (1, 1), encoder.image_size):
        pixels = torch.rand(2, 3, height, width, requires_grad=True)
        vectors = encoder.embed(pixels)
        (gradient,) = torch.autograd.grad(vectors[:, 0].sum(), pixels)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-5)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_every_preprocessing_mode_matches_open_clips(
    mode: str, interpolation: str, size: tuple[int, int], photo_parts: list[Image.Image]
) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    config = open_clip.transform.PreprocessCfg(size, "RGB", mean, std, interpolation, mode, 90)
    theirs = open_clip.transform.image_transform_v2(config, is_train=False)
    # open_clip's own non-square "shortest" path ignores the interpolation and takes bicubic
    kind = "bicubic" if mode == "shortest" and size[0] != size[1] else interpolation
    ours = Preprocess(size, mean, std, kind, mode, 90)
    for picture in [*photo_parts, photo_parts[0].resize((20, 31)), photo_parts[0].resize((64, 64))]:
        expected = theirs(picture)
        actual = ours.normalize(ours.pixels(images.to_tensor(picture)[None] / 255))[0]
        levels = (actual - expected).abs() * torch.tensor(std).view(3, 1, 1) * 255
        assert actual.shape == expected.shape
        assert levels.max() < 1.6  # one 8-bit step, where Pillow's fixed-point sum rounds the other way
        assert (levels > 0.5).float().mean() < 0.03  # exact halves in the ideal sum


@pytest.mark.parametrize(("height", "width"), [(4000, 100), (900, 200), (70, 40), (300, 64), (100, 4000), (90, 130)])
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_noise_is_resized_as_by_the_installed_pillow(height: int, width: int, mode: str) -> None:
    """The order of rows and columns tells in noise; Pillow 13 takes another one for tall pictures than 12."""
    levels = torch.randint(256, (3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    preprocess = Preprocess((64, 64), resize_mode=mode)
    off = (preprocess.pixels(levels[None] / 255)[0] * 255).round() - preprocess.image(images.to_image(levels))
    assert off.abs().max() <= 1
    assert (off != 0).float().mean() < 0.01


def test_resampling_gradient_is_the_transpose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rounding the resize is linear: the change along any direction is what the gradient says."""
    monkeypatch.setattr("foclip.models.resize.round8", lambda values: values)
    preprocess = Preprocess((12, 12), (0.0,) * 3, (1.0,) * 3)
    generator = torch.Generator().manual_seed(0)
    for height, width in ((40, 70), (90, 30), (7, 9)):
        x = torch.rand(1, 3, height, width, generator=generator).requires_grad_(True)
        direction = torch.randn(x.shape, generator=generator)
        out = preprocess.pixels(x)
        weights = torch.randn(out.shape, generator=generator)
        (gradient,) = torch.autograd.grad((out * weights).sum(), x)
        change = ((preprocess.pixels(x + direction) - out) * weights).sum()
        assert change.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-4, abs=1e-4)


def test_rounding_passes_the_gradient_straight_through() -> None:
    preprocess = Preprocess((12, 12), (0.0,) * 3, (1.0,) * 3)
    generator = torch.Generator().manual_seed(0)
    x = (0.3 + 0.4 * torch.rand(1, 3, 40, 70, generator=generator)).requires_grad_(True)
    direction = torch.rand(x.shape, generator=generator)  # of one sign, so that the change stands out of the rounding
    out = preprocess.pixels(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    change = (preprocess.pixels(x + 0.2 * direction) - preprocess.pixels(x - 0.2 * direction)).sum() / 0.4
    assert change.item() == pytest.approx((gradient * direction).sum().item(), rel=0.01)


def test_texts_keep_their_end_and_truncation_is_reported(encoder: OpenClipEncoder) -> None:
    long = "a very long caption " * 500
    with pytest.warns(PromptTruncationWarning, match="1 of 3"):
        vectors = encoder.encode_texts(["short", long, ""])
    assert vectors.shape[0] == 3
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)
    tokens, truncated = encoder.tokenize(["short", long])
    assert truncated == [1]
    end = tokens[0].max()  # CLIP's text tower reads at the highest token, its end-of-text token
    assert tokens[1, -1] == end
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode_texts(list(ARTWORKS))


def test_hostile_prompts(mini: Encoder) -> None:
    prompts = ["<script>alert('x')</script>", "\u202e" * 50, "日本語 🎉", "%s {} \\x00 [red]", "a" * 10_000]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptTruncationWarning)
        assert mini.encode_texts(prompts).isfinite().all()


@pytest.mark.parametrize("texts", ["a dog", "", [], ()])
def test_prompts_are_a_list(mini: Encoder, texts: list[str]) -> None:
    with pytest.raises(UsageError, match="texts: give a list of prompts"):
        mini.encode_texts(texts)


def test_a_row_does_not_depend_on_the_others(mini: Encoder, photo_parts: list[Image.Image]) -> None:
    scorer = CLIPScore(mini)
    levels = torch.stack([mini.preprocess.image(picture) for picture in photo_parts])
    together = embeddings(scorer, levels, 3)
    assert torch.equal(embeddings(scorer, levels[3:], 3), together[3:])
    assert torch.allclose(together, mini.encode_pictures(photo_parts), atol=1e-5)
    targets = [mini.encode_texts(["a cat"])] * len(levels)
    pixels = [mini.preprocess.pixels(images.to_tensor(picture)[None] / 255) for picture in photo_parts]
    raw = raw_scores(scorer, pixels, targets, 6)
    for i, picture in enumerate(pixels):
        assert torch.equal(raw_scores(scorer, [picture], targets[:1], 6)[0], raw[i])


@pytest.mark.slow
def test_the_fingerprint_tells_weights_and_preprocessing(mini: Encoder) -> None:
    def changed(change: Callable[[OpenClipEncoder], object]) -> str:
        model = copy.deepcopy(opened("mini").model)
        encoder = OpenClipEncoder("mini", model, opened("mini").tokenizer)
        change(encoder)
        return encoder.fingerprint

    def other_weight(encoder: OpenClipEncoder) -> None:
        next(encoder.model.parameters()).view(-1)[0] += 1e-3

    def other_mean(encoder: OpenClipEncoder) -> None:
        encoder.preprocess = Preprocess(encoder.image_size, (0.5,) * 3, (0.5,) * 3)

    assert changed(lambda encoder: None) == mini.fingerprint
    assert len({mini.fingerprint, changed(other_weight), changed(other_mean)}) == 3


@pytest.mark.parametrize("embedded_name", sorted({*embedded.names()} - {*embedded.ORIGINALS}))
def test_embedded_loads_with_open_clip_alone(embedded_name: str, photo_files: list[Path]) -> None:
    encoder, name = load_encoder(embedded_name), f"local-dir:{embedded.path(embedded_name)}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    model.eval()
    picture = images.read(photo_files[0])
    with torch.no_grad():
        image = model.encode_image(preprocess(picture)[None], normalize=True)
        texts = model.encode_text(tokenizer(list(ARTWORKS)), normalize=True)
    ours = encoder.encode_pictures([picture]) @ encoder.encode_texts(ARTWORKS).T
    assert torch.allclose(image @ texts.T, ours, atol=1e-5)


@pytest.mark.parametrize("name", embedded.ORIGINALS)
def test_a_twin_shares_all_but_its_image_tower(name: str, photo_files: list[Path]) -> None:
    original, twin = load_encoder(embedded.ORIGINALS[name]), load_encoder(name)
    assert torch.equal(twin.encode_texts(ARTWORKS), original.encode_texts(ARTWORKS))
    pictures = [images.read(path) for path in photo_files]
    cosines = (twin.encode_pictures(pictures) * original.encode_pictures(pictures)).sum(dim=1)
    assert cosines.min() > 0.97
    assert not torch.equal(cosines, torch.ones_like(cosines))


@pytest.mark.parametrize("name", embedded.names())
def test_embedded_knows_what_it_sees(name: str, photo_files: list[Path]) -> None:
    """Not a measure of quality, only that the weights are trained ones: a cup of coffee is one."""
    coffee = images.read(next(path for path in photo_files if path.stem == "coffee"))
    encoder = load_encoder(name)
    texts = encoder.encode_texts(
        [f"a photo of a {thing}." for thing in ("espresso", "school bus", "goldfish", "obelisk")]
    )
    assert (encoder.encode_pictures([coffee]) @ texts.T).argmax() == 0


@pytest.mark.parametrize("name", embedded.names())
def test_a_changed_byte_is_noticed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(embedded.FOLDER, tmp_path / "embedded", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(embedded, "FOLDER", tmp_path / "embedded")
    weights = next((tmp_path / "embedded" / name).glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(EncoderError, match=r"\.safetensors is damaged"):
        load_encoder(name)


@pytest.mark.parametrize("architecture", ["ViT-S-32", "RN50"])
def test_a_bare_checkpoint_is_recognised(checkpoints: Checkpoints, architecture: str) -> None:
    assert models.checkpoints.architecture(checkpoints[architecture]) == architecture


@pytest.mark.slow
def test_checkpoint_by_other_spellings(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoints["small-ViT"].parent)
    relative = load_encoder("small-ViT/small-ViT.pt")
    absolute = load_encoder(str(checkpoints["small-ViT"]))
    assert relative.fingerprint == absolute.fingerprint != load_encoder("mini").fingerprint


@pytest.mark.parametrize("architecture", sorted(catalogue.pretrained()))
def test_a_file_is_prepared_for_as_its_architectures_tags(
    architecture: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(models.checkpoints, "_checked", lambda path: {"text.proj": (2, 2)})
    try:
        found = models.checkpoints.options(architecture, tmp_path)["force_preprocess_cfg"]
    except EncoderError as error:
        assert "prepared for in more than one way" in str(error)  # noqa: PT017 (three architectures)
        assert architecture in {"ViT-H-14", "ViT-H-14-quickgelu", "ViT-L-14"}
        return
    for tag in catalogue.pretrained()[architecture].values():
        assert all(found[key] == tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag)


@pytest.mark.parametrize("name", embedded.ORIGINALS)
def test_an_image_tower_alone_is_called_that(name: str) -> None:
    (tower,) = embedded.path(name).glob("*.safetensors")
    for given in (f"ViT-S-32/{tower}", str(tower)):
        with pytest.raises(EncoderError, match="no text tower; if they are an image tower alone"):
            load_encoder(given)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "model.", "module.", "module._orig_mod.", "_orig_mod.model.module."])
@pytest.mark.parametrize("key", ["state_dict", "model", ""])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_wraps_a_model_names_its_weights(tmp_path: Path, prefix: str, key: str, suffix: str) -> None:
    state = {name: torch.zeros(2) for name in ("logit_scale", "visual.proj", "token_embedding.weight")}
    small = {f"{prefix}{name}": value.clone() for name, value in state.items()}
    path = tmp_path / f"wrapped{suffix}"
    if suffix == ".pt":
        torch.save({key: small, "epoch": 3} if key else small, path)
    else:
        save_file(small, path)
    with models.checkpoints.readable(path) as readable:
        read = open_clip.factory.load_state_dict(str(readable))
    assert read.keys() == state.keys()
    assert models.checkpoints._checked(path).keys() == state.keys()
    assert not readable.exists() or readable == path


def small(prefix: str = "", value: float = 0.0) -> dict[str, torch.Tensor]:
    """What weights are called."""
    return {f"{prefix}{name}": torch.full((2,), value) for name in ("logit_scale", "visual.proj", TOKENS)}


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ({"module": small("module."), "global_steps": 3}, None),  # DeepSpeed
        ({"ema": small("module."), "epoch": 3}, None),
        ({"n_averaged": torch.tensor(3), **small("module.")}, None),  # torch's AveragedModel
        ({"state_dict": small("model.") | {"loss.bias": torch.zeros(1)}}, None),  # Lightning
        ({f"{name}.weight": torch.zeros(3) for name in ("head", "norm")} | small("clip."), None),
        (small("_fsdp_wrapped_module."), None),
        ({"state_dict": small(), "optimizer": {"state": {0: {"step": torch.zeros(1)}}}, "epoch": 3}, None),
        ({"state_dict_ema": small("", 1), "state_dict": small()}, "called state_dict, not state_dict_ema"),
        ({"model": small(), "model_ema": small("", 1)}, "called model, not model_ema"),
        ({"state_dict": small("model.") | small("ema_model.", 1)}, "called model.…, not ema_model.…"),
    ],
)
def test_what_trainers_save_beside_the_model(tmp_path: Path, content: dict[str, Any], note: str | None) -> None:
    torch.save(content, tmp_path / "a.pt")
    with warnings.catch_warnings(record=True) as said, models.checkpoints.readable(tmp_path / "a.pt") as readable:
        warnings.simplefilter("always")
        read = open_clip.factory.load_state_dict(str(readable))
    assert read.keys() == small().keys()
    assert not any(value.any() for value in read.values())
    assert [str(each.message).partition("the weights are those ")[2] for each in said] == ([note] if note else [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": small("model.") | small("other.")}, r"of several models \(model\.…, other\.…\)"),
        ({"student": small(), "teacher": small()}, "holds the weights student, teacher; save the state_dict"),
        ({f"{part}_model.{TOKENS}": torch.zeros(2) for part in ("text", "vision")}, "those of transformers' model"),
        ({"visual.proj": torch.zeros(2), "visual.conv1.weight": torch.zeros(2)}, "no text tower"),
        ([small()], "holds no weights by name"),
    ],
)
def test_a_checkpoint_that_is_not_clear_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(EncoderError, match=message):
        load_encoder(f"ViT-S-32/{tmp_path / 'a.pt'}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "rounds"),
    [
        (lambda state: {name: value.half() for name, value in state.items()}, True),
        (lambda state: state | {"logit_bias": torch.tensor(-10.0)}, False),  # trained with SigLIP's loss
    ],
    ids=["float16", "bias"],
)
def test_weights_of_other_types_are_the_same_encoder(
    checkpoints: Checkpoints, tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], rounds: bool
) -> None:
    path = checkpoints["small-RN"]
    torch.save(change(torch.load(path, weights_only=True)["state_dict"]), tmp_path / "a.pt")
    pixels, ours, theirs = torch.rand(1, 3, 64, 64), opened(f"small-RN/{tmp_path / 'a.pt'}"), opened(f"small-RN/{path}")
    for one, other in ((ours.embed(pixels), theirs.embed(pixels)), (ours.texts(["a"]), theirs.texts(["a"]))):
        assert one.dtype == torch.float32
        assert torch.allclose(one, other, atol=0.02) if rounds else torch.equal(one, other)


def _saved_by_trainers(folder: Path, state: dict[str, torch.Tensor]) -> dict[str, Path]:
    """Checkpoints of the same weights as trainers leave them."""

    def named(prefix: str, scale: float = 1.0) -> dict[str, torch.Tensor]:
        return {f"{prefix}{name}": value * scale for name, value in state.items()}

    files = {
        "lightning": {
            "state_dict": {**named("model."), "loss.weight": torch.ones(2)},
            "pytorch-lightning_version": "2.4.0",
            "hyper_parameters": {"lr": 1e-3},
            "loops": {},
        },
        "lightning-ema": {"state_dict": {**named("ema_model.module.", 2.0), **named("model.")}},
        "ema-alone": {"state_dict_ema": named("module."), "epoch": 3},
        "both": {"model": named(""), "model_ema": named("", 2.0)},
    }
    for name, content in files.items():
        torch.save(content, folder / f"{name}.pt")
    names, places = list(state), dict[str, str]()
    for number in range(2):
        part = {f"module.{name}": state[name].clone() for name in names[number::2]}
        save_file(part, folder / f"part-{number}.safetensors")
        places |= dict.fromkeys(part, f"part-{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return {path.name: path for path in [*folder.glob("*.pt"), folder / "model.safetensors.index.json"]}


def test_weights_are_found_where_trainers_leave_them(tmp_path: Path) -> None:
    state = {name: torch.rand(2) for name in ("logit_scale", "visual.proj", "token_embedding.weight")}
    files = _saved_by_trainers(tmp_path, state)
    assert len(files) == 5
    for path in files.values():
        with models.checkpoints.readable(path) as readable:
            read = open_clip.factory.load_state_dict(str(readable))
        assert read.keys() == state.keys()
        assert all(torch.equal(read[name], state[name]) for name in state), path


@pytest.mark.slow
def test_shards_and_half_precision_are_read(checkpoints: Checkpoints, tmp_path: Path) -> None:
    state = torch.load(checkpoints["small-ViT"], weights_only=True, mmap=True)["state_dict"]
    index = _saved_by_trainers(tmp_path, state)["model.safetensors.index.json"]
    assert opened(f"small-ViT/{index}").fingerprint == opened(str(checkpoints["small-ViT"])).fingerprint
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pt")
    assert opened(f"small-ViT/{tmp_path / 'half.pt'}").encode_texts(["a cat"]).dtype == torch.float32
    (tmp_path / "part-1.safetensors").unlink()
    with pytest.raises(EncoderError, match="no weights-only checkpoint that can be read"):
        load_encoder(f"small-ViT/{index}")


@pytest.mark.slow
def test_a_wrapped_checkpoint_is_the_same_encoder(checkpoints: Checkpoints, tmp_path: Path) -> None:
    state = torch.load(checkpoints["small-ViT"], weights_only=True, mmap=True)["state_dict"]
    wrapped = {f"_orig_mod.module.{name}": value for name, value in state.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "wrapped.pt")
    found = {opened(str(path)).fingerprint for path in (tmp_path / "wrapped.pt", checkpoints["small-ViT"])}
    assert len(found) == 1


@pytest.mark.slow
def test_a_file_can_be_taken_as_a_tags(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """Architectures whose tags differ in preprocessing or activation."""
    monkeypatch.chdir(checkpoints["small-RN"].parent)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "RN50", open_clip.get_model_config("small-RN"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is left to be said
        taken = opened("RN50/openai/small-RN.pt")
    assert "QuickGELU" in {type(module).__name__ for module in taken.model.modules()}
    path = str(checkpoints["small-RN"])
    assert catalogue.parse(f"ViT-L-14/openai/{path}") == ("ViT-L-14", "openai", path)
    monkeypatch.setattr(models.checkpoints, "_checked", lambda path: {"text.proj": (2, 2)})
    known = catalogue.pretrained()
    for architecture in ("ViT-L-14", "ViT-H-14", "ViT-H-14-quickgelu"):
        with pytest.raises(
            EncoderError, match=f"{architecture}/TAG/FILE, with a TAG of {next(iter(known[architecture]))}"
        ):
            models.checkpoints.options(architecture, Path("RN50.pt"))
        for tag, facts in known[architecture].items():
            told = models.checkpoints.options(architecture, Path("RN50.pt"), tag)
            assert {key: facts[key] for key in told["force_preprocess_cfg"]} == told["force_preprocess_cfg"]
            assert told.get("force_quick_gelu", False) == facts.get("quick_gelu", False)


def test_a_checkpoint_of_another_width_names_its_architecture(checkpoints: Checkpoints) -> None:
    with pytest.raises(EncoderError, match=r"do not fit ViT-B-32: .* 384 wide, not 512; they fit ViT-S-32"):
        load_encoder(f"ViT-B-32/{checkpoints['ViT-S-32']}")


@pytest.mark.slow
def test_a_checkpoint_of_no_square_picture_is_refused(tmp_path: Path) -> None:
    model = open_clip.create_model("ViT-S-32", force_image_size=(224, 192))
    torch.save(model.state_dict(), tmp_path / "own.pt")
    with pytest.raises(EncoderError, match="looks at 42 patches, which make no square picture"):
        load_encoder(f"ViT-S-32/{tmp_path / 'own.pt'}")


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that has nothing."""

    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("name", "what", "way"),
    [
        ("ViT-B-32/openai", "weights", "ViT-B-32/openai/FILE"),
        ("open_clip:RN50/openai", "weights", "RN50/openai/FILE"),
        ("hf-hub:someone/model", "weights", "local-dir:FOLDER"),
        ("ViT-B-16-SigLIP/webli", "weights", "ViT-B-16-SigLIP/webli/FILE"),
        ("ViT-B-16-SigLIP/small-RN.pt", "tokenizer's files", "local-dir:FOLDER"),
        ("xlm-roberta-base-ViT-B-32/small-RN.pt", "tokenizer's files", "local-dir:FOLDER"),
    ],
)
def test_what_must_be_downloaded_is_refused_at_once_where_it_cannot(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, what: str, way: str
) -> None:
    monkeypatch.chdir(checkpoints["small-RN"].parent)
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderError, match=rf"{what} \(https://.*\(HF_HUB_OFFLINE is set\).*{way}"):
        load_encoder(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    bare = name.removeprefix("open_clip:")
    with pytest.raises(EncoderError, match=rf"{what} \(http://.*Connection refused.*{way}"):
        remote.require(bare)
    with http.server.HTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        remote.require(bare)  # the hub answers: what it has is for its client to find out
        hub.shutdown()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for repository in re.findall(r"http\S+?/([\w.-]+/[\w.-]+)\)", str(_refusal(bare))):
        kept = tmp_path / f"models--{repository.replace('/', '--')}"
        (kept / "snapshots" / "0").mkdir(parents=True)
        (kept / "blobs").mkdir()
        (kept / "snapshots" / "0" / "open_clip_config.json").touch()
        assert re.search(rf"{what}.*are not on this machine and", str(_refusal(bare)))  # what there is does not do
        (kept / "blobs" / "0.incomplete").touch()
        assert re.search(rf"{what}.*are not on this machine, but for a part", str(_refusal(bare)))
        needed = kept / "snapshots" / "0" / ("open_clip_model.safetensors" if what == "weights" else "tokenizer.json")
        needed.symlink_to(kept / "blobs" / "1")
        assert _refusal(bare)  # a link to nothing
        (kept / "blobs" / "1").touch()
    if (left := _refusal(bare)) is not None:  # SigLIP's weights are kept, its tokenizer is not
        assert "tokenizer" in str(left)


def _refusal(name: str) -> EncoderError | None:
    try:
        remote.require(name)
    except EncoderError as error:
        return error
    return None


def test_nothing_of_the_hubs_client_is_logged_while_a_model_loads(caplog: pytest.LogCaptureFixture) -> None:
    import huggingface_hub.utils._http as client

    with surroundings.quiet():
        logging.getLogger(client.__name__).warning("Retrying in 8s")
    assert not caplog.records
    logging.getLogger(client.__name__).warning("Retrying in 8s")
    assert caplog.records or not logging.getLogger("huggingface_hub").propagate


@pytest.mark.slow
def test_a_checkpoint_keeps_its_own_size(tmp_path: Path) -> None:
    model = open_clip.create_model("ViT-S-32-alt", force_image_size=160, force_context_length=40)
    torch.save(model.state_dict(), tmp_path / "own.pt")
    with pytest.warns(CheckpointWarning, match=r"ViT-S-32-alt with GELU, 40 tokens.*\(160, 160\)"):
        encoder = opened(f"ViT-S-32-alt/{tmp_path / 'own.pt'}")
    assert encoder.image_size == (160, 160)
    assert encoder.tokenize(["a " * 99])[0].shape == (1, 40)
    assert torch.equal(encoder.model.visual.positional_embedding, model.visual.positional_embedding)
    assert torch.equal(encoder.model.positional_embedding, model.positional_embedding)
    config = models.checkpoints.model_config(encoder)
    assert (config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"]) == (160, 40)


@pytest.mark.slow
def test_openai_tags_get_their_activation(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """RN50/openai was trained with QuickGELU although the architecture RN50 says GELU."""
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: str(checkpoints["small-RN"]))
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "RN50", open_clip.get_model_config("small-RN"))
    monkeypatch.setattr(remote, "_reach", lambda *_: None)
    encoder = opened("RN50/openai")
    activations = {type(module).__name__ for module in encoder.model.transformer.modules()}
    assert "QuickGELU" in activations
    assert "GELU" not in activations


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch evil-was-here",)


def test_pickles_with_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "evil.pt")
    for name in ("evil.pt", "ViT-B-32/evil.pt"):
        with pytest.raises(EncoderError, match=r"evil\.pt"):
            load_encoder(name)
    assert not Path("evil-was-here").exists()


@pytest.mark.slow
def test_wrong_names_get_one_helpful_line(tmp_path: Path, checkpoints: Checkpoints) -> None:
    (tmp_path / "text.pt").write_text("no weights")
    cases = {
        "mimi": "mini",
        "ViT-B-23/openai": "ViT-B-32",
        "ViT-B-32": "ViT-B-32/openai",
        "ViT-B-32/nonsense": "neither a file nor a pretrained tag",
        str(tmp_path / "gone.pt"): "no such checkpoint",
        str(tmp_path / "text.pt"): "weights-only",
        f"local-dir:{tmp_path}": "open_clip_config.json",
        "local-dir:/no/such/folder": "not found",
        f"ViT-B-16/{checkpoints['small-RN']}": "do not fit",
        "ViT-B-32/openai": "cannot be downloaded",
    }
    for name, message in cases.items():
        with pytest.raises(EncoderError) as caught:
            load_encoder(name)
        assert message in str(caught.value), name
        assert "\n" not in str(caught.value)


def test_available_lists_embedded_first() -> None:
    rows = catalogue.available()
    known = ["mini", "mini-robust", "mini-robust-46", "mini-vit", "mini-vit-robust-44"]
    assert [row["name"] for row in rows if row["kind"] == "embedded"] == known
    assert rows[0]["name"] == "mini"
    assert Path(rows[0]["path"]).is_dir()
    assert rows[0]["parameters"] > 100_000
    assert "ViT-L-14-336-quickgelu/openai" in {row["name"] for row in rows}
