"""Every registered score, those of another package too, keeps what `foclip.models.scorer.Scorer` promises."""

import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import families
import pytest
import torch
from conftest import Made
from PIL import Image

from foclip.attacks import make_plan
from foclip.data.images import to_tensor
from foclip.errors import UsageError
from foclip.models import EmbeddingScorer, Scorer, available, load, load_encoder, registry
from foclip.models.batching import TargetCache, figures, raw_scores, read_figures, read_scores
from foclip.models.scores import CLIPScore, MeanEnsemble, MinEnsemble

TOYS = ("toy", "toy-taste")
#: Scores over encoders of transformers, and the family of the one each is asked of.
FAMILIES = {"siglip": "siglip", "pickscore": "clip", "blip-itm": "blip"}
ENSEMBLES = {"mean": MeanEnsemble, "lower": MinEnsemble}


@pytest.fixture(
    scope="module",
    params=["clipscore", "clip-iqa", *TOYS, *ENSEMBLES, *FAMILIES, "hpsv2", "aesthetic", "imagereward", "vqascore"],
)
def scorer(
    request: pytest.FixtureRequest,
    toys: None,
    made: Made,
    folder: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scorer]:
    name: str = request.param
    if name in FAMILIES:
        yield load(name, made(FAMILIES[name]))
    elif name == "imagereward":
        yield load(name, str(families.image_reward(tmp_path_factory.mktemp("reward"))))
    elif name == "vqascore":
        yield load(name, str(folder("llava")))
    elif name in ENSEMBLES:
        yield ENSEMBLES[name]([CLIPScore(load_encoder("mini")), CLIPScore(load_encoder("mini-vit"))])
    else:
        yield load(name)


@pytest.fixture
def prompts(scorer: Scorer) -> tuple[str, ...]:
    return () if scorer.info.prompts == "none" else ("a photo of a cat.", "a red square on the sea", "good photo.")


def test_the_toys_are_found_by_their_entry_points_alone(toys: None) -> None:
    assert set(TOYS) <= set(available())
    with pytest.raises(UsageError, match="none of clipscore, clip-iqa"):
        load("nosuch")


def test_it_says_what_it_is(scorer: Scorer) -> None:
    assert isinstance(scorer, Scorer)
    info = scorer.info
    assert 0 < info.floor < info.scale < math.inf
    assert info.temperature > 0
    assert scorer.parameter_count > 0
    assert (info.prompts == "optional") == bool(info.default_prompts)
    assert info.name not in registry.NEED_PROMPTS or info.prompts == "required"
    embeddings = ("clipscore", "clip-iqa", "siglip", "pickscore", "hpsv2", "aesthetic")
    assert isinstance(scorer, EmbeddingScorer) == (info.name in embeddings)


def test_raw_scores_have_a_row_per_picture_and_a_column_per_prompt(scorer: Scorer, prompts: tuple[str, ...]) -> None:
    targets = TargetCache(scorer)(prompts)
    seen = scorer.preprocess.pixels(torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0)))
    assert scorer(seen, targets).shape == (2, max(len(prompts), 1))


def test_a_figure_does_not_depend_on_what_else_is_read(
    scorer: Scorer, prompts: tuple[str, ...], small_photos: list[Image.Image]
) -> None:
    images, cache = [scorer.preprocess.image(photo) for photo in small_photos * 3], TargetCache(scorer)
    each = [prompts[: 1 + place % 3] for place in range(len(images))]
    together = read_figures(scorer, images, [cache(own) for own in each])
    alone = [read_figures(scorer, [image], [cache(own)])[0] for image, own in zip(images, each, strict=True)]
    assert together == alone
    low, high = (scorer.info.scale * end for end in (scorer.info.lowest, scorer.info.highest))
    assert all(low <= value <= high for row in together for value in row)


def test_pixels_and_the_file_get_the_same_raw_score(
    scorer: Scorer, prompts: tuple[str, ...], small_photos: list[Image.Image]
) -> None:
    targets = TargetCache(scorer)(prompts)
    exact = read_scores(scorer, [scorer.preprocess.image(photo) for photo in small_photos], [targets] * 4)
    pixels = [scorer.preprocess.pixels(to_tensor(photo)[None].float() / 255) for photo in small_photos]
    for found, wanted in zip(raw_scores(scorer, pixels, [targets] * 4, rows=4), exact, strict=True):
        torch.testing.assert_close(found[0], wanted, atol=2e-3, rtol=0)


def test_the_gradient_reaches_the_pixels(scorer: Scorer, prompts: tuple[str, ...]) -> None:
    pixels = torch.rand(1, 3, 50, 40, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    raw = raw_scores(scorer, [scorer.preprocess.pixels(pixels)], [TargetCache(scorer)(prompts)], rows=2)
    (gradient,) = torch.autograd.grad(raw[0].sum(), pixels)
    assert gradient.abs().max() > 0


def test_a_target_is_refused_only_above_the_most_it_can_be(scorer: Scorer) -> None:
    most = scorer.info.scale * scorer.info.highest
    make_plan(target=min(most, 3 * scorer.info.scale)).check(scorer)
    if math.isfinite(most):
        with pytest.raises(UsageError, match=f"the most that {scorer.info.name} can be"):
            make_plan(target=1.01 * most).check(scorer)


def test_figures_are_never_below_zero_but_for_rewards(scorer: Scorer) -> None:
    low = -1.0 if scorer.info.name == "imagereward" else 0.0
    assert figures(scorer, torch.tensor([-1.0, 0.0, 1.0])).tolist() == [low, 0.0, scorer.info.scale]


def test_it_crosses_processes_and_stays_itself(scorer: Scorer, prompts: tuple[str, ...]) -> None:
    copy = pickle.loads(pickle.dumps(scorer))
    assert copy.fingerprint == scorer.fingerprint
    image = scorer.preprocess.image(Image.new("RGB", (60, 40), "orange"))
    found, wanted = (read_figures(each, [image], [TargetCache(each)(prompts)]) for each in (copy, scorer))
    assert found == wanted


def test_resize_and_crop_say_what_they_leave(scorer: Scorer) -> None:
    rows, columns = scorer.preprocess.region(300, 100)
    assert 0 <= rows.start < rows.stop <= 300
    assert 0 <= columns.start < columns.stop <= 100


def test_targets_are_encoded_once(scorer: Scorer, prompts: tuple[str, ...]) -> None:
    cache = TargetCache(scorer, size=2)
    first = cache(prompts)
    assert cache(prompts) is first
    if prompts:
        for other in (("one",), ("two",)):
            cache(other)
        assert prompts not in cache


def test_a_package_that_cannot_be_loaded_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[foclip.scorers]\nbroken = no_such_module:load\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="broken: its package cannot be loaded"):
        load("broken")
