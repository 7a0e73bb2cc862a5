import io
import json
import math
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from calling import started
from conftest import SMALL, Checkpoints, Run
from PIL import Image
from torch import nn

from foclip.cache import Cache
from foclip.errors import EncoderError, UsageError
from foclip.hardening import HardenSettings, TrainingProgress, harden, harden_encoder, measuring
from foclip.hardening.pictures import augment, count, decode, perturb, random_start
from foclip.hardening.tower import precision_for, trainable
from foclip.hardening.trainer import TEXT_ROWS, Texts, Trainer
from foclip.models import Encoder, OpenClipEncoder, load_encoder
from foclip.models.checkpoints import model_config

pytestmark = pytest.mark.usefixtures("_embedded_once")

#: A run that ends in seconds; float32, because which precision is faster is a matter of the machine.
SHORT = ("--steps", 3, "--batch-size", 4, "--precision", "float32", "--keep", 0, "--attack-steps", 2)


SETTINGS = HardenSettings(steps=3, batch_size=4, precision="float32", keep=0)


def picture(seed: int, size: int = 48) -> Image.Image:
    """Some coloured shapes."""
    rng = np.random.default_rng(seed)
    pixels = np.full((size, size, 3), rng.integers(256, size=3), dtype=np.uint8)
    for _ in range(4):
        (top, left), (height, width) = rng.integers(size, size=2), rng.integers(4, size, size=2)
        pixels[top : top + height, left : left + width] = rng.integers(256, size=3)
    return Image.fromarray(pixels)


def encoded(seed: int) -> bytes:
    stream = io.BytesIO()
    picture(seed).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 pictures, some in a folder of the folder."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "more").mkdir()
    for seed in range(70):
        (root / ("more" if seed % 2 else ".") / f"{seed:02d}.png").write_bytes(encoded(seed))
    return root


@pytest.fixture(scope="module", autouse=True)
def _measured_quickly() -> Iterator[None]:
    """The figures of the card are as good after two steps of the inner attack, for tests that they are there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "ASCENT", 2)
        yield


def weights(out: Path) -> bytes:
    return (out / "open_clip_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def hardened(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("runs") / "hardened"
    assert harden("mini", [folder], out, SETTINGS, attack_steps=2) is not None
    return out


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(hardened: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    assert harden("mini", [folder], out, SETTINGS, stop_after=1) is None
    assert not (out / "README.md").exists()
    with pytest.raises(UsageError, match="other settings"):
        harden("mini", [folder], out, replace(SETTINGS, lr=1.0))
    said: list[str] = []
    assert harden("mini", [folder], out, SETTINGS, attack_steps=2, log=said.append)
    assert "continuing at step 1 of 3" in said
    assert weights(out) == weights(hardened)


@pytest.mark.slow
def test_sigkill_of_the_command(run: Run, hardened: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    call = ("harden", "--images", folder, "--out", out, "--json", *SHORT)
    process = started(*call)
    checkpoint = out / ".unfinished" / "checkpoint.pt"
    while not checkpoint.exists() and process.is_alive():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    code, text, _ = run(*call)
    assert code == 0
    facts = json.loads(text)
    assert facts["pictures"] == 12
    assert facts["settings"]["precision"] == "float32"
    assert weights(out) == weights(hardened)


@pytest.mark.slow
def test_the_folder_loads_with_open_clip_alone(hardened: Path, mini: Encoder) -> None:
    code = (
        "import sys, torch, open_clip; name = 'local-dir:' + sys.argv[1];"
        "model, _, preprocess = open_clip.create_model_and_transforms(name);"
        "tokens = open_clip.get_tokenizer(name)(['a photo of a lemon.']);"
        "torch.save(model.eval().encode_text(tokens, normalize=True), sys.argv[2]);"
        "assert not any(m.split('.')[0] == 'foclip' for m in sys.modules)"
    )
    kept = hardened.parent / "text.pt"
    subprocess.run([sys.executable, "-c", code, str(hardened), str(kept)], check=True, capture_output=True)
    assert torch.allclose(torch.load(kept, weights_only=True), mini.encode_texts(["a photo of a lemon."]), atol=1e-6)
    other = load_encoder(f"local-dir:{hardened}")
    assert other.fingerprint != mini.fingerprint
    assert torch.equal(other.encode_texts(["a dog"]), mini.encode_texts(["a dog"]))
    found, expected = (each.encode_pictures([picture(1)]) for each in (other, mini))
    assert 0.3 < float(found @ expected.T) < 0.9999
    facts = json.loads((hardened / "training.json").read_text())
    assert facts["settings"]["steps"] == 3
    assert facts["held_out"] == 7
    assert f"{facts['after']['rise']:.3f}" in (hardened / "README.md").read_text()
    assert not (hardened / ".unfinished").exists()


@pytest.mark.slow
def test_an_encoder_too_far_from_the_original_is_not_written(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "far"
    code, _, err = run("harden", "--images", folder, "--out", out, *SHORT, "--keep", 0.999)
    assert code == 2
    assert "nothing written, since the mean cosine with mini on 7 clean" in err
    assert not (out / "open_clip_model.safetensors").exists()
    assert (out / ".unfinished" / "checkpoint.pt").exists()
    # The least cosine may be changed without training again.
    code, text, _ = run("harden", "--images", folder, "--out", out, *SHORT)
    assert code == 0
    assert "FoCLIP raises mini's score by" in text
    assert (out / "open_clip_model.safetensors").exists()


def test_sources(folder: Path, tmp_path: Path, mini: Encoder) -> None:
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        for seed in range(3):
            for suffix, content in ((".png", encoded(seed)), (".txt", b"a caption that nobody reads")):
                member = tarfile.TarInfo(f"{seed}{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    plain = pd.DataFrame({"image": [encoded(seed) for seed in range(4)], "label": range(4)})
    plain.to_parquet(tmp_path / "plain.parquet")
    struct = pd.DataFrame({"image": [{"bytes": encoded(seed), "path": None} for seed in range(5)]})
    struct.to_parquet(tmp_path / "struct.parquet")
    sources = [folder, *(tmp_path / name for name in ("some.tar", "plain.parquet", "struct.parquet"))]
    assert count(sources) == 70 + 3 + 4 + 5
    found = decode(sources, mini.image_size, mini.preprocess.image, range(70, 82))
    assert found.levels.shape == (12, 3, 96, 96)
    for first, length in ((4, 3), (7, 3)):  # tables and archives of one folder are read by name
        assert torch.equal(found.levels[:3], found.levels[first : first + length])
    assert torch.equal(found.enlarged, torch.full((12,), 2.0))
    assert not found.skipped


def test_broken_pictures_are_left_out_and_listed(tmp_path: Path, mini: Encoder) -> None:
    (tmp_path / "a.png").write_bytes(encoded(0)[:200])
    (tmp_path / "b.png").write_bytes(encoded(1))
    (tmp_path / "c.jpg").write_text("no picture")
    table = pd.DataFrame({"image": [b"", None, encoded(2)]})
    table.to_parquet(tmp_path / "d.parquet")
    found = decode([tmp_path], mini.image_size, mini.preprocess.image, range(count([tmp_path])))
    assert len(found) == 2
    assert [Path(line.split(":")[0]).name for line in found.skipped] == [
        "a.png",
        "c.jpg",
        "d.parquet, row 0",
        "d.parquet, row 1",
    ]


@pytest.mark.slow
def test_a_run_goes_on_without_broken_pictures(run: Run, folder: Path, tmp_path: Path) -> None:
    for seed in range(9):
        (tmp_path / f"{seed}.png").write_bytes(encoded(seed))
    (tmp_path / "broken.png").write_bytes(encoded(9)[:200])
    options = ("--eval", folder / "00.png", "--out", tmp_path / "out", "--json", *SHORT)
    code, text, err = run("harden", "--images", tmp_path, *options)
    assert code == 1
    assert "left out" in err
    facts = json.loads(text)
    assert [Path(line.split(":")[0]).name for line in facts["skipped"]] == ["broken.png"]
    assert facts["pictures"] == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batch-size", 64), "63 pictures to train on are fewer than a batch of 64"),
        (("--batch-size", 8, "--accumulate", 3), "is no multiple of 1 processes × 3 parts"),
        (("--min-psnr", 0), "--min-psnr: 0; give a budget in dB above 0"),
        (("--precision", "float8"), "Invalid value for '--precision'"),
        (("--model", "mini-typo"), "unknown encoder"),
    ],
)
def test_wrong_calls(run: Run, folder: Path, tmp_path: Path, options: tuple[object, ...], message: str) -> None:
    code, _, err = run("harden", "--images", folder, "--out", tmp_path / "out", *options)
    assert code == 2
    assert message in " ".join(err.split())


def test_no_pictures(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    code, _, err = run("harden", "--images", tmp_path, "--out", tmp_path / "out")
    assert code == 2
    assert "no pictures" in err
    code, _, err = run("harden", "--images", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert code == 2
    assert "no such file or folder" in err


def test_what_cannot_be_trained(mini: Encoder) -> None:
    class Bare(nn.Module):
        """A tower that only calls itself one."""

    class Integers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = nn.Linear(2, 2)
            self.visual.register_buffer("scales", torch.zeros(2, dtype=torch.int8))

        def encode_image(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs.flatten(1)[:, :2]

    class Deaf(Integers):
        def __init__(self) -> None:
            super().__init__()
            del self.visual.scales

    def around(model: nn.Module) -> OpenClipEncoder:
        encoder = object.__new__(OpenClipEncoder)
        vars(encoder).update(vars(mini))
        encoder.name, encoder.model = "custom", model
        return encoder

    for model, message in ((Bare(), "no image tower"), (Integers(), "quantised"), (Deaf(), "no gradient")):
        with pytest.raises(EncoderError, match=message):
            trainable(around(model))


def test_any_encoder_with_a_tower_to_train_can_be_hardened() -> None:
    """`HardenableEncoder` is all that is asked for: here an encoder that no library made."""
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).requires_grad_(False)
    unused = nn.Parameter(torch.zeros(3), requires_grad=False)
    frozen.register_parameter("unused", unused)
    seen = SimpleNamespace(size=(2, 2), normalize=lambda pixels: 2 * pixels - 1)
    encoder = SimpleNamespace(name="toy", device=torch.device("cpu"), preprocess=seen, image_tower=lambda: frozen)
    tower = trainable(encoder)
    assert [name for name, value in tower.named_parameters() if value.requires_grad] == ["1.weight", "1.bias"]
    assert not any(value.requires_grad for value in frozen.parameters())
    assert precision_for(tower, encoder) in ("float32", "bfloat16")


def test_an_encoder_without_a_tower_to_train_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harden_encoder, "load_encoder", lambda model, device: SimpleNamespace(name=model))
    with pytest.raises(EncoderError, match="toy: cannot be hardened"):
        harden("toy", [folder], tmp_path / "out", SETTINGS)


@pytest.mark.slow
def test_stages_are_shown(hardened: Path, folder: Path, tmp_path: Path) -> None:
    """Each stage ends at its total: no bar stands still while something else is done."""
    shown: dict[str, tuple[int, list[float]]] = {}

    def progress(stage: str, total: int) -> Any:
        shown[stage] = total, []
        return lambda done, note="": shown[stage][1].append(done)

    assert harden("mini", [folder], tmp_path / "out", SETTINGS, attack_steps=2, progress=progress)
    assert list(shown) == ["decoding", "training", "exporting", "measuring"]
    for total, done in shown.values():
        assert done == sorted(done)
        assert done[-1] == total
    assert shown["training"][1] == [0, 1, 2, 3]
    assert len(set(shown["measuring"][1])) > 3


def test_perturbed_pictures_stay_within_their_radius() -> None:
    pictures = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    radius = torch.tensor([0.1, 0.2, 0.3, 0.4])
    matrix = torch.randn(192, 5, generator=torch.Generator().manual_seed(1))

    def encode(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(x.flatten(1) @ matrix, dim=1)

    directions = nn.functional.normalize(torch.randn(4, 5, generator=torch.Generator().manual_seed(2)), dim=1)
    start = random_start(pictures, radius, torch.Generator().manual_seed(3))
    assert (start.flatten(1).norm(dim=1) <= radius).all()
    for steps in (1, 5):
        found = perturb(encode, pictures, directions, radius, start, steps)
        assert ((found - pictures).flatten(1).norm(dim=1) <= radius * 1.0001).all()
        assert ((encode(found) * directions).sum(1) > (encode(pictures) * directions).sum(1)).all()


def test_views_are_pictures() -> None:
    levels = torch.randint(256, (6, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = augment(levels, torch.tensor([1, 1, 1, 1.5, 3, 9.0]), torch.Generator().manual_seed(1))
    assert views.shape == (6, 3, 20, 24)
    assert 0 <= views.min() < views.max() <= 1
    assert torch.equal(views, augment(levels, torch.tensor([1, 1, 1, 1.5, 3, 9.0]), torch.Generator().manual_seed(1)))


def test_texts_are_encoded_when_they_are_asked_for_whatever_was_asked_before(mini: Encoder) -> None:
    captions = [f"a photo of {number} cats" for number in range(30)]
    encoded: list[str] = []

    class Recorded:
        def encode_texts(self, texts: list[str]) -> torch.Tensor:
            encoded.extend(texts)
            return mini.encode_texts(texts)

    one, other = Texts(Recorded(), captions), Texts(mini, captions)
    first = one[torch.tensor([7, 3, 7])]
    assert {*encoded} == {captions[3], captions[7]}
    assert torch.allclose(first, mini.encode_texts([captions[place] for place in (7, 3, 7)]), atol=1e-5)
    assert other[torch.arange(30)][[7, 3]].equal(first[:2])
    count = len(encoded)
    assert one[torch.tensor([3])].equal(first[1:2])
    assert len(encoded) == count == TEXT_ROWS


@pytest.mark.parametrize("architecture", SMALL)
def test_other_towers(architecture: str, checkpoints: Checkpoints, folder: Path, tmp_path: Path) -> None:
    """A step of a layer-norm tower and of one with batch normalisation, in parts, with activations recomputed."""
    encoder = load_encoder(f"{architecture}/{checkpoints[architecture]}")
    assert isinstance(encoder, OpenClipEncoder)
    tower: Any = trainable(encoder, checkpointing=True)
    before = {key: value.clone() for key, value in tower.visual.state_dict().items()}
    pictures = decode([folder], encoder.image_size, encoder.preprocess.image, range(2))
    texts = Texts(encoder, ["a cat", "a dog", "a car"])
    settings = HardenSettings(steps=1, batch_size=2, accumulate=2, precision="float32", checkpointing=True)
    seen: list[TrainingProgress] = []
    Trainer(encoder, tower, pictures, texts, settings, Cache(tmp_path), "").train(seen.append)
    assert [now.step for now in seen] == [1]
    assert math.isfinite(seen[0].loss)
    after = tower.visual.state_dict()
    statistics = [key for key in before if "running" in key or "num_batches" in key]
    assert bool(statistics) == (architecture == "small-RN")
    assert all(torch.equal(before[key], after[key]) for key in statistics)
    assert not torch.equal(before["conv1.weight"], after["conv1.weight"])
    config = model_config(encoder)
    assert config == open_clip.get_model_config(architecture)
