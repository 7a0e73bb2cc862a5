"""The training recipe, on synthetic pictures: no data of ours, no teacher, a few seconds."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("training", reason="training/ is not part of an installed package")

import pandas as pd
from PIL import Image

from foclip.data.prompts import ARTWORKS
from training import inputs, loss, train
from training.data import Augmentation, perspective_grid, to_gray
from training.evaluate import drop
from training.figures import Figure
from training.optim import orthogonalise
from training.paintings import photograph
from training.texts import BROADER, HELD_OUT, SUPERCLASSES, build_captions
from training.tokenizer import END, START, save_tokenizer, tokenize, train_tokenizer

CONFIG: dict[str, Any] = {
    "seed": 3,
    "bf16": False,
    "model": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 400,
            "hf_tokenizer_name": "local",
            "width": 16,
            "heads": 1,
            "layers": 1,
        },
    },
    "text": {"words": 50, "cone": 0.4, "batch": 8, "steps": 2, "lr": 1e-3},
    "train": {
        "batch": 8, "lr": 1e-3, "weight_decay": 0.01, "warmup": 0.1, "text_every": 2, "text_rate": 0.1,
        "text_distance": 1.0, "texts": 4, "others": 4, "paintings": 2, "broader_weight": 0.3, "floor": 0.1,
        "floor_weight": 1.0, "max_scale": 50.0, "min_area": 0.4, "sharpen": 1.0,
        "checkpoint_seconds": 1000,
    },
    "stages": [{"size": 32, "pictures": 48, "gray_share": 0.2}],
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder laid out like the real data: 24 pictures of noise, 200 class names, 2 paintings."""
    rng = np.random.default_rng(0)

    def picture(side: int) -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))

    def encoded() -> bytes:
        stream = io.BytesIO()
        picture(64).save(stream, "PNG")
        return stream.getvalue()

    tiny, paintings = tmp_path / "data" / "tiny-imagenet", tmp_path / "data" / "paintings"
    tiny.mkdir(parents=True)
    paintings.mkdir()
    table = pd.DataFrame({"image": [encoded() for _ in range(24)], "label": range(24)})
    table.to_parquet(tiny / "train-0.parquet")
    classes = [{"label": i, "wnid": f"n{i}", "names": [f"thing number {i}"]} for i in range(200)]
    (tiny / "classes.json").write_text(json.dumps(classes))
    entries = [{"file": f"{i}.png", "prompt": ARTWORKS[i]} for i in range(2)]
    for entry in entries:
        picture(48).save(paintings / entry["file"])
    (paintings / "index.json").write_text(json.dumps(entries))
    return tmp_path / "data"


#: Without a sentence encoder, and with a bias, which makes the loss that of pairs.
ALONE = {key: value for key, value in CONFIG.items() if key != "text"}
ALONE["model"] = CONFIG["model"] | {"init_logit_bias": -5.0}


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, ALONE], ids=["taught", "alone"])
def test_a_resumed_run_ends_with_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]
) -> None:
    def teacher(texts: list[str], cache: Path) -> torch.Tensor:
        return torch.randn(len(texts), 24, generator=torch.Generator().manual_seed(0))

    monkeypatch.setattr(inputs, "embed_with_minilm", teacher)
    monkeypatch.setattr(inputs, "common_words", lambda limit: ["red", "green", "blue"])
    monkeypatch.delenv("FOCLIP_TRAINING_CACHE", raising=False)
    whole = train.Run(config, data, tmp_path / "whole", "cpu")
    whole.train()
    train.Run(config, data, tmp_path / "parts", "cpu").train(stop_after=4)
    resumed = train.Run(config, data, tmp_path / "parts", "cpu")
    resumed.train()
    assert resumed.step == whole.step == 6
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=0, atol=0, msg=name)

    import open_clip

    loaded = open_clip.create_model(f"local-dir:{tmp_path / 'whole' / 'model'}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'whole' / 'model'}")
    texts = ["a photo of a red thing.", "blue"]
    with torch.no_grad():
        found = loaded.encode_text(tokenizer(texts), normalize=True)
        torch.testing.assert_close(found, whole.encode(texts), rtol=0, atol=5e-3)


def test_the_loss_of_pairs_is_siglips() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, positives = torch.randn(3, 5, generator=generator) * 4, torch.rand(3, 5, generator=generator) < 0.3
    wanted = (1 + (-logits * (2 * positives.float() - 1)).exp()).log().sum() / 3
    torch.testing.assert_close(loss.sigmoid(logits, positives), wanted)


def test_tokenizer_keeps_its_end_token_and_every_character(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["red green blue"] * 9, 300)
    end = tokenizer.token_to_id(END)
    assert end == tokenizer.get_vocab_size() - 1
    rows = tokenize(tokenizer, ["red " * 100, "", "Ünïcödé 漢字 🙂"], 16)
    assert rows.shape == (3, 16)
    assert rows.amax(1).tolist() == [end] * 3
    assert rows[:, 0].tolist() == [tokenizer.token_to_id(START)] * 3
    assert rows[0, -1] == end

    from open_clip.tokenizer import HFTokenizer

    save_tokenizer(tokenizer, tmp_path, 16)
    same = HFTokenizer(str(tmp_path), context_length=16)(["red " * 100, "", "Ünïcödé 漢字 🙂"])
    torch.testing.assert_close(same, rows)


def test_the_share_of_gray_pictures_is_what_was_asked_for() -> None:
    pictures = torch.randint(0, 256, (400, 8, 8, 3), dtype=torch.uint8)
    pixels = Augmentation(gray_share=0.25)(pictures, 16, torch.Generator().manual_seed(0))
    gray = (pixels - to_gray(pixels)).abs().amax((1, 2, 3)) < 1e-5
    assert pixels.shape == (400, 3, 16, 16)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert 0.19 < gray.float().mean() < 0.31


def test_perspective_without_strength_is_the_identity_and_with_it_stays_bounded() -> None:
    generator = torch.Generator().manual_seed(0)
    still = perspective_grid(2, 8, 0.0, 0.0, (1.0, 1.0), generator)
    expected = torch.nn.functional.affine_grid(torch.eye(2, 3).expand(2, 2, 3), [2, 3, 8, 8], align_corners=False)
    torch.testing.assert_close(still, expected)
    tilted = perspective_grid(64, 8, 0.3, 0.35, (0.5, 1.15), generator)
    assert tilted.isfinite().all()
    assert tilted.abs().max() < 6


def test_captions_hold_out_the_superclass_words() -> None:
    names = [[f"thing {i}", "a dog", "reptiles"] for i in range(200)]
    captions = build_captions(names)
    drawn = [text for i in range(20) for text in captions.draw(50, random.Random(i))]
    assert len(captions.draw(50, random.Random(0))) == 200 + len(ARTWORKS) + len(BROADER) + 50
    assert not [text for text in drawn if HELD_OUT.search(text)]
    assert all(HELD_OUT.search(f"some {word}s.") for word in SUPERCLASSES)


def test_orthogonalised_updates_have_singular_values_near_one() -> None:
    matrix = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_photographs_of_a_painting_repeat_and_differ() -> None:
    painting = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
    first, again = (photograph(painting, random.Random(1), 64) for _ in range(2))
    assert first.size == (96, 64)
    assert first.tobytes() == again.tobytes() != photograph(painting, random.Random(2), 64).tobytes()


def test_drop_and_bars() -> None:
    assert drop(torch.tensor([0.4, 0.2]), torch.tensor([0.2, 0.1])) == pytest.approx(0.5)
    assert drop(torch.zeros(2), torch.zeros(2)) == 0
    assert Figure("x", 0.5, 0.4).passed
    assert Figure("x", 0.5, 0.4).bar == "≥ 0.4"
    assert not Figure("x", 0.5, high=0.4).passed
    assert not Figure("x", float("nan"), 0.4).passed
