"""The image tower in bfloat16 while pictures are on their way; whatever is told of a file is float32."""

import json
import pickle
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Checkpoints, Run, file_score, fooled_by
from PIL import Image
from torch.overrides import TorchFunctionMode

from foclip.attacks import FoCLIP, fastest_precision, make_plan, objective
from foclip.attacks.plan import Execution
from foclip.data.images import to_tensor
from foclip.data.prompts import ARTWORKS
from foclip.errors import CompileWarning, UsageError
from foclip.models import Encoder, OpenClipEncoder, load_encoder
from foclip.models.fuse import cast
from foclip.models.precision import FASTER, Precision
from foclip.models.scores import CLIPScore


@pytest.mark.slow
def test_a_file_fooled_in_bfloat16_scores_as_one_in_float32(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    pictures = [to_tensor(photo) for photo in small_photos[:2]]
    plain = make_plan(FoCLIP, objective=objective(), steps=8, budgets="psnr:35", batch_size=2)
    quick = plain.replace(precision="bfloat16")
    found = [fooled_by(attack, score, pictures, ARTWORKS) for attack in (plain, quick)]
    pixels = [[fooled.pixels for fooled in each] for each in found]
    assert not all(torch.equal(a, b) for a, b in zip(*pixels, strict=True))  # it was another computation
    scores = [[file_score(score, each, ARTWORKS) for each in part] for part in pixels]
    assert sum(scores[1]) == pytest.approx(sum(scores[0]), rel=0.01)
    assert pixels[1][0].equal(fooled_by(quick, score, pictures[:1], ARTWORKS)[0].pixels)  # whatever the company


def test_only_the_tower_and_only_where_it_is_asked_for(mini: Encoder) -> None:
    torch.manual_seed(0)
    pixels = torch.rand(1, 3, 120, 100)
    inputs = mini.preprocess.pixels(pixels)
    plain, quick = mini.embed(inputs), mini.in_precision(torch.bfloat16)
    assert torch.equal(quick.preprocess.pixels(pixels), inputs)
    lower = quick.embed(inputs)
    assert lower.dtype == torch.float32
    assert lower.norm() == pytest.approx(1, abs=1e-5)
    assert 1e-5 < (lower - plain).abs().max() < 0.02
    assert torch.equal(mini.embed(inputs), plain)


@pytest.mark.parametrize("name", ["mini", "mini-vit", *SMALL])
def test_weights_are_cast_once_to_what_autocast_makes_of_them(name: str, checkpoints: Checkpoints) -> None:
    encoder = load_encoder(f"{name}/{checkpoints[name]}" if name in SMALL else name)
    assert isinstance(encoder, OpenClipEncoder)
    inputs = torch.rand(2, 3, *encoder.image_size, generator=torch.Generator().manual_seed(0))
    lower: Any = cast(encoder._fused, torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, wanted = (model.encode_image(inputs).float() for model in (lower, encoder._fused))
    assert torch.cosine_similarity(found, wanted).min() > 0.9995  # sums may be added up in another order
    kinds = {type(part): {weight.dtype for weight in part.parameters(recurse=False)} for part in lower.visual.modules()}
    assert kinds[torch.nn.Conv2d] == {torch.bfloat16}
    assert all(weight.dtype == torch.float32 for weight in encoder.model.parameters())


def test_fused_attention_stays_in_float32_on_a_cpu() -> None:
    encoder = load_encoder("mini-vit")
    assert isinstance(encoder, OpenClipEncoder)
    found: list[list[torch.dtype]] = []

    class Recorded(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.nn.functional.scaled_dot_product_attention:
                found[-1].append(args[0].dtype)
            return function(*args, **(kwargs or {}))

    for model in (encoder._fused, cast(encoder._fused, torch.bfloat16)):
        found.append([])
        with torch.no_grad(), Recorded(), torch.autocast("cpu", torch.bfloat16):
            model.encode_image(torch.rand(1, 3, *encoder.image_size))
    assert set(found[0]) == {torch.bfloat16}
    assert found[1] == len(found[0]) * [torch.float32]


@pytest.mark.slow
def test_what_is_fastest_here_is_measured(score: CLIPScore) -> None:
    chosen, ratio = fastest_precision(Execution(batch_size=2), score)
    assert ratio > 0
    assert chosen == ("bfloat16" if ratio >= FASTER else "float32")


@pytest.mark.slow
def test_precision_on_the_command_line(run: Run, small_photos: list[Image.Image], tmp_path: Path) -> None:
    small_photos[0].save(tmp_path / "a.png")
    call = ("fool", tmp_path / "a.png", "--prompt", "a cat", "--steps", 3, "--json")
    code, text, errors = run(*call, "--out", tmp_path / "auto", "--precision", "auto")
    assert code == 0
    assert "times as fast as float32 here" in errors
    code, text, _ = run(*call, "--out", tmp_path / "lower", "--precision", "bfloat16")
    assert code == 0
    assert json.loads(text)[0]["config"]["precision"] == "bfloat16"
    assert run(*call, "--out", tmp_path / "no", "--precision", "float8")[0] == 2
    with pytest.raises(UsageError, match="float8"):
        make_plan(FoCLIP, objective=objective(), precision="float8")


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`torch.compile` all the way but for the C++ at its end, which takes a minute."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_compiled_tower_computes_the_same(precision: Precision, small_photos: list[Image.Image]) -> None:
    score = CLIPScore(load_encoder("mini"))
    attack = make_plan(FoCLIP, objective=objective(), steps=3, budgets="psnr:35", precision=precision)
    picture = to_tensor(small_photos[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        (found,) = fooled_by(attack.replace(compiled=True), score, [picture], ARTWORKS)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # one whole, compiled once
    assert pickle.loads(pickle.dumps(score)).fingerprint == score.fingerprint  # other processes are given it
    (plain,) = fooled_by(attack, score, [picture], ARTWORKS)
    assert found.scores == pytest.approx(plain.scores, rel=0.01)


@pytest.mark.slow
def test_a_tower_that_cannot_be_compiled_goes_on_as_it_is(
    checkpoints: Checkpoints, small_photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise torch._inductor.exc.InvalidCxxCompiler

    torch._dynamo.reset()
    monkeypatch.setattr(torch._inductor.cpp_builder, "get_cpp_compiler", none)
    score = CLIPScore(load_encoder(f"small-RN/{checkpoints['small-RN']}"))
    attack = make_plan(FoCLIP, objective=objective(), steps=3, budgets="psnr:35")
    picture = to_tensor(small_photos[0])
    with pytest.warns(CompileWarning, match=r"small-RN/.*: torch\.compile failed, going on without"):
        (found,) = fooled_by(attack.replace(compiled=True), score, [picture], ARTWORKS)
    assert torch.equal(found.pixels, fooled_by(attack, score, [picture], ARTWORKS)[0].pixels)


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_compiled_on_the_command_line(
    run: Run, checkpoints: Checkpoints, small_photos: list[Image.Image], tmp_path: Path
) -> None:
    small_photos[0].save(tmp_path / "a.png")
    model = ("--model", f"small-RN/{checkpoints['small-RN']}")
    call = ("fool", tmp_path / "a.png", "--prompt", "a cat", *model, "--steps", 1, "--json", "--compile")
    code, text, errors = run(*call, "--out", tmp_path / "out")
    assert code == 0
    assert "compiling the image tower" in errors
    assert json.loads(text)[0]["config"]["compiled"]
