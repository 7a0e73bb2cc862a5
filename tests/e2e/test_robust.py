"""What the study `robust` uses: best captions, encoders hardened in the study, other starting points, and checks."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Run, file_score, fooled_by
from PIL import Image

from foclip.attacks import AttackPlan, AutoPGD, FoCLIP, Restart, make_plan
from foclip.data.images import to_tensor
from foclip.data.prompts import ARTWORKS
from foclip.errors import UsageError
from foclip.models import Encoder, load_encoder
from foclip.models.scores import CLIPScore
from foclip.objective import FeatureAlignment
from foclip.studies import robust
from foclip.studies.harness import StudyContext, StudySettings, hardening, pictures
from foclip.studies.harness import context as contexts
from foclip.studies.harness.hardening import gradients_along

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudySettings, "steps", 2)
        patch.setattr(StudySettings, "count", 3)
        patch.setattr(contexts, "CANDIDATES", 20)
        patch.setattr(hardening, "QUICK", 1)
        patch.setattr(pictures, "CORNERS", pictures.CORNERS[:4])
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_photos: list[Image.Image]) -> Path:
    """Three small pictures, one of them with a caption of its own."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, picture in zip("abc", small_photos, strict=False):
        picture.resize((96, 72)).save(folder / f"{name}.png")
    (folder / "b.txt").write_text("a rocket at night\na second line\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def robust_score() -> CLIPScore:
    return CLIPScore(load_encoder("mini-robust"))


@pytest.fixture
def context(mini: Encoder, folder: Path, tmp_path: Path) -> StudyContext:
    return StudyContext([CLIPScore(mini)], tmp_path, StudySettings(quick=True, images=folder))


def test_a_photo_has_the_caption_beside_it_or_the_one_that_fits_best(
    context: StudyContext, robust_score: CLIPScore
) -> None:
    scores = [context.score, robust_score]
    found = context.best_captions(scores)
    assert found.keys() == {"a.png", "b.png", "c.png"}
    assert found["b.png"] == ("a rocket at night",)
    candidates = contexts.candidates()
    for picture in (context.pictures[0], context.pictures[2]):
        both = np.mean([context.scores([picture], candidates, score)[0] for score in scores], axis=0)
        assert found[picture.name] == (candidates[int(both.argmax())],)


def test_each_picture_may_have_its_own_prompts(context: StudyContext) -> None:
    each = [("a cat",), ("a dog",), ("a rocket",)]
    together = context.scores(context.pictures, each)
    fooled = context.fool(context.default_attack(), context.pictures, each)
    for picture, prompts, scores, changed in zip(context.pictures, each, together, fooled, strict=True):
        assert scores.tolist() == context.scores([picture], prompts)[0].tolist()
        (alone,) = context.fool(context.default_attack(), [picture], prompts)
        assert alone.digest == changed.digest != picture.digest


@pytest.mark.slow
def test_an_encoder_is_hardened_once_on_photos_that_it_is_not_measured_on(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hardening.hardened_score(context, 38.0)
    assert first.fingerprint != context.score.fingerprint
    one, other = (torch.as_tensor(each.encode_prompts(("a cat",))) for each in (first, context.score))
    assert torch.equal(one, other)  # the text tower is unchanged
    (folder,) = context.cache.folder.glob("*/training.json")
    assert len(list((folder.parent / "pictures").iterdir())) == 4 * 2  # crops of a and c
    assert [picture.name for picture in hardening.held_out(context)] == ["b.png"]
    assert hardening.hardened_score(context, 32.0).fingerprint != first.fingerprint
    monkeypatch.setattr(hardening, "harden", None)
    assert hardening.hardened_score(context, 38.0).fingerprint == first.fingerprint


def test_gradients_along_the_way(context: StudyContext) -> None:
    (fooled,) = context.fool(context.default_attack(), context.pictures[:1])
    rows = gradients_along(context, context.score, ARTWORKS, context.pictures[:1], [fooled], (0.0, 1.0))
    assert [row["along"] for row in rows] == [0, 1]
    for row, picture in zip(rows, (context.pictures[0], fooled), strict=True):
        assert row["score"] == pytest.approx(context.scores([picture]).mean(), abs=0.02)
        assert row["gradient"] > 0


def test_another_start_lies_within_the_budget(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    picture = to_tensor(small_photos[0].resize((80, 80)))
    attack = make_plan(Restart, objective=FeatureAlignment(), steps=1, budgets="psnr:35", batch_size=1)
    found: list[torch.Tensor] = []
    for each in (attack, attack, attack.replace(start=2)):
        starts = list(fooled_path(each, score, picture))
        change = 10 * math.log10(1 / float((starts[0] - picture / 255).square().mean()))
        assert change == pytest.approx(35 - 20 * math.log10(0.7), abs=0.1)
        found += starts[:1]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    (same,) = fooled_by(attack.replace(start=0, steps=3), score, [picture], ARTWORKS)
    (plain,) = fooled_by(
        make_plan(FoCLIP, objective=FeatureAlignment(), steps=3, budgets="psnr:35", batch_size=1),
        score,
        [picture],
        ARTWORKS,
    )
    assert torch.equal(same.pixels, plain.pixels)
    for wrong in ({"start": -1}, {"budgets": None}):
        with pytest.raises(UsageError):
            attack.replace(**wrong)


def fooled_path(attack: AttackPlan, score: CLIPScore, picture: torch.Tensor) -> list[torch.Tensor]:
    """The picture as optimised after each update."""
    from foclip.attacks import AttackTask, run

    seen: list[torch.Tensor] = []
    list(
        run(
            [AttackTask(picture, ARTWORKS)],
            score,
            attack,
            on_step=lambda states: seen.append(states[0].space.pixels.clone()),
        )
    )
    return seen


@pytest.mark.slow
def test_the_embedded_hardened_encoder_resists_honestly(
    score: CLIPScore, robust_score: CLIPScore, small_photos: list[Image.Image]
) -> None:
    """It bounds the rise, and does not hide its gradient: steps and budget help, and other attacks find the same."""
    pixels = [to_tensor(photo.resize((112, 112))) for photo in small_photos[:2]]

    def rise(attack: AttackPlan, target: CLIPScore) -> float:
        fooled = fooled_by(attack, target, pixels, ARTWORKS)
        return (
            sum(
                file_score(target, f.pixels, ARTWORKS) - file_score(target, p, ARTWORKS)
                for f, p in zip(fooled, pixels, strict=True)
            )
            / 2
        )

    short = make_plan(FoCLIP, objective=FeatureAlignment(), steps=12, budgets="psnr:35", batch_size=2)
    usual = rise(short.replace(steps=40), robust_score)
    assert 0 < usual < 0.5 * rise(short.replace(steps=40), score)
    assert rise(short, robust_score) <= usual + 0.005
    assert rise(make_plan(AutoPGD, steps=40, budgets="psnr:35", batch_size=2), robust_score) == pytest.approx(
        usual, rel=0.15
    )
    assert rise(short.replace(steps=40, budgets="psnr:20"), robust_score) > 2.5 * usual


def rows(**changed: Any) -> pd.DataFrame:
    """A table of the study in which every check holds, but for what is changed."""
    values: dict[str, float] = {
        "FoCLIP, 10 steps": 0.2, "FoCLIP, 100 steps": 0.3, "FoCLIP, 1,000 steps": 0.31, "Auto-PGD": 0.3, "CMA-ES": 0.1,
        "start 1": 0.32, "45": 0.1, "35": 0.3, "20": 1.2, "6": 1.9, "6, start 1": 1.88, "ceiling": 1.95,
        "gradient": 0.5,
    } | changed  # fmt: skip
    found: list[dict[str, Any]] = []
    for name in ("a", "b"):
        same = {"picture": name, "photo": name, "before": 0.0}
        for attacker in (
            "FoCLIP, 10 steps",
            "FoCLIP, 100 steps",
            "FoCLIP, 1,000 steps",
            "Auto-PGD",
            "start 1",
            "CMA-ES",
        ):
            found.append(
                same
                | {"part": robust.HARDER, "attacked": robust.HARDENED, "attacker": attacker, "score": values[attacker]}
            )
        for budget in (35.0, 45.0):
            found.append(
                same
                | {
                    "part": robust.CURVE,
                    "attacked": robust.HARDENED,
                    "aim": robust.OWN,
                    "budget": budget,
                    "score": values[f"{budget:g}"],
                }
            )
        for attacked, attacker, budget, value in (
            (robust.HARDENED, "FoCLIP", 20.0, "20"),
            (robust.HARDENED, "FoCLIP", 6.0, "6"),
            (robust.HARDENED, "start 1", 6.0, "6, start 1"),
            (robust.PLAIN, "FoCLIP", 6.0, "ceiling"),
        ):
            told = {"part": robust.CHECK, "attacked": attacked, "attacker": attacker, "budget": budget}
            found.append(same | told | {"score": values[value]})
        for along, gradient in ((0.0, 1.0), (1.0, values["gradient"])):
            found.append(same | {"part": robust.WAY, "along": along, "gradient": gradient, "score": 0.1})
        found.append({"part": robust.CLEAN, "attacked": robust.HARDENED, "picture": name, "photo": name, "score": 0.9})
    return pd.DataFrame(found)


@pytest.mark.parametrize(
    ("changed", "fails"),
    [
        ({}, None),
        ({"gradient": 0.001}, 0),
        ({"gradient": math.nan}, 0),
        ({"FoCLIP, 1,000 steps": 0.2}, 1),
        ({"45": 0.4}, 2),
        ({"20": 0.8}, 3),
        ({"6": 1.2, "6, start 1": 1.2}, 4),
        ({"6, start 1": 1.75}, 5),
        ({"6": 1.78, "6, start 1": 1.95}, 5),
        ({"CMA-ES": 0.35}, 6),
    ],
)
def test_checks_fail_where_a_defence_only_seems_to_hold(changed: dict[str, float], fails: int | None) -> None:
    found = robust.checks(rows(**changed))
    assert [number for number, (_, holds, _) in enumerate(found) if not holds] == ([] if fails is None else [fails])


def test_of_several_starts_the_best_of_each_photo_counts() -> None:
    table = rows()
    table["rise"] = table.score
    best = robust._harder(table)["best of 2 starts"]
    assert best.rise.tolist() == [0.32, 0.32]


def test_an_unknown_hardened_encoder_is_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    call = ("reproduce", "tau", "--quick", "--images", folder, "--out", tmp_path / "out")
    code, _, errors = run(*call, "--hardened", "nonsense")
    assert code == 2
    assert "nonsense" in errors
