"""Scores: CLIPScore, CLIP-IQA, and the mean of several."""

import inspect
import math
from collections.abc import Sequence
from pathlib import Path

import open_clip
import pytest
import torch
from conftest import fooled_by, raw_scores_of, raw_scores_of_pixels, scores_of
from PIL import Image
from torch import Tensor

import foclip
from foclip.attacks import FoCLIP, make_plan, objective
from foclip.core.scoring import score as core_score
from foclip.data.images import to_image, to_tensor
from foclip.data.prompts import ARTWORKS, as_prompts
from foclip.data.samples import Sample
from foclip.errors import UsageError
from foclip.models import Encoder, OpenClipEncoder
from foclip.models.batching import LATEST, MOST_PROMPTS, TargetCache, figures, read_figures
from foclip.models.registry import available, resolve
from foclip.models.scorer import Scorer
from foclip.models.scores import CLIPScore, MeanEnsemble, MinEnsemble, clip_iqa
from foclip.models.scores.clip_iqa import CLIPIQA
from foclip.perceptual.fidelity import fidelity


def tiny(seed: int, size: int) -> Encoder:
    """A small CLIP with random weights, an input size and a preprocessing of its own."""
    torch.manual_seed(seed)
    vision = {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "image_size": size}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(24, vision, text)
    preprocessing = {"size": (size, size), "resize_mode": "squash", "mean": (0.4,) * 3, "std": (0.3,) * 3}
    open_clip.set_model_preprocess_cfg(model, preprocessing)
    return OpenClipEncoder(f"tiny-{size}", model, open_clip.get_tokenizer("ViT-B-32"))


@pytest.fixture(scope="module")
def iqa(mini: Encoder) -> CLIPIQA:
    return CLIPIQA(mini)


@pytest.fixture(scope="module")
def members(score: CLIPScore) -> tuple[CLIPScore, CLIPScore]:
    return score, CLIPScore(tiny(0, 40))


@pytest.fixture(scope="module")
def pictures(small_photos: list[Image.Image]) -> list[Tensor]:
    return [to_tensor(picture.resize((w, h))) for picture, w, h in zip(small_photos, (96, 80), (80, 110), strict=False)]


@pytest.fixture(params=["clipscore", "clip-iqa", "mean", "lower"])
def any_score(request: pytest.FixtureRequest, mini: Encoder, members: tuple[CLIPScore, CLIPScore]) -> Scorer:
    several = {kind.name: kind for kind in (MeanEnsemble, MinEnsemble)}
    return several[request.param](members) if request.param in several else resolve(mini, request.param)


def test_clip_score_is_hessels_equation(mini: Encoder, score: CLIPScore, small_photos: list[Image.Image]) -> None:
    for picture in small_photos:
        cosines = (mini.encode_pictures([picture]) @ mini.encode_texts(ARTWORKS).T)[0]
        assert torch.allclose(raw_scores_of(score, picture, ARTWORKS), cosines, atol=1e-6)
        assert scores_of(score, picture, ARTWORKS) == pytest.approx([2.5 * max(float(c), 0) for c in cosines], abs=1e-5)
    assert scores_of(CLIPScore(mini, 100), small_photos[0], ("a cat",)) == pytest.approx(
        [40 * figure for figure in scores_of(score, small_photos[0], ("a cat",))], rel=1e-5
    )
    assert figures(score, torch.tensor([-1.0, 0.0, 0.5])).tolist() == [0, 0, 1.25]
    for scale in (0.0, -2.5, math.nan, math.inf):
        with pytest.raises(UsageError, match="scale"):
            CLIPScore(mini, scale)


def test_clip_iqa_is_the_probability_of_the_good_side(
    mini: Encoder, iqa: CLIPIQA, small_photos: list[Image.Image]
) -> None:
    texts = mini.encode_texts(["Good photo.", "Bad photo.", "Good lighting.", "Bad lighting."])
    for picture in small_photos:
        good, bad, bright, dark = (100 * (mini.encode_pictures([picture]) @ texts.T)[0]).tolist()
        expected = [1 / (1 + math.exp(bad - good)), 1 / (1 + math.exp(dark - bright))]
        figures = scores_of(iqa, picture, ("photo.", "lighting."))
        assert figures == pytest.approx(expected, abs=1e-4)
        assert all(0 <= figure <= 1 for figure in figures)
        assert foclip.score(picture, model=iqa).results[0].scores == scores_of(
            iqa, picture, ("photo.",)
        )  # its own prompt


def test_a_score_is_one_short_file() -> None:
    assert available()[:2] == ["clipscore", "clip-iqa"]
    assert len(inspect.getsource(clip_iqa).splitlines()) < 60
    home = Path(clip_iqa.__file__)
    # Besides its file it is named in the registry's table, one line, and in what its package offers.
    named = {home, home.parents[1] / "registry.py", home.parent / "__init__.py"}
    for path in home.parents[2].rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert path in named or not any(word in text for word in ("clip-iqa", "clip_iqa", "CLIPIQA")), path
    registry = (home.parents[1] / "registry.py").read_text(encoding="utf-8").splitlines()
    assert sum("clip_iqa" in line for line in registry) == 1


def test_a_value_does_not_depend_on_what_else_is_in_its_pass(any_score: Scorer, pictures: list[Tensor]) -> None:
    pixels, prompts = [picture / 255 for picture in pictures], [ARTWORKS[:3], ARTWORKS[4:5]]
    together = raw_scores_of_pixels(any_score, pixels, prompts, 4)
    assert [values.shape for values in together] == [(1, 3), (1, 1)]
    for i in range(2):
        assert torch.equal(raw_scores_of_pixels(any_score, pixels[i : i + 1], prompts[i : i + 1], 4)[0], together[i])


def test_what_the_attack_moves_is_what_the_file_scores(any_score: Scorer, pictures: list[Tensor]) -> None:
    for picture in pictures:
        pixels = (picture / 255).requires_grad_(True)
        (values,) = raw_scores_of_pixels(any_score, [pixels], [ARTWORKS], 1)
        assert (values[0] - raw_scores_of(any_score, to_image(picture), ARTWORKS)).abs().max() <= 0.004
        (gradient,) = torch.autograd.grad(values.sum(), pixels)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@pytest.mark.slow
def test_every_score_can_be_fooled_within_its_budget(any_score: Scorer, pictures: list[Tensor]) -> None:
    attack = make_plan(FoCLIP, objective=objective(temperature=any_score.info.temperature), steps=20, budgets="psnr:33")
    for fooled, original in zip(fooled_by(attack, any_score, pictures, ARTWORKS[:3]), pictures, strict=True):
        assert fidelity(fooled.pixels, original).psnr >= 33.0
        before, after = (sum(scores_of(any_score, to_image(x), ARTWORKS[:3])) for x in (original, fooled.pixels))
        assert after > before + 0.05
        assert max(fooled.scores) == pytest.approx(after / 3, abs=0.02)


def test_what_was_scored_without_gradients_can_be_fooled_after(mini: Encoder, pictures: list[Tensor]) -> None:
    """Texts are remembered; those that were first met in inference mode must not spoil the attack."""
    score = CLIPScore(mini)
    with torch.inference_mode():
        scores_of(score, to_image(pictures[0]), ("a cat",))
    (fooled,) = fooled_by(make_plan(FoCLIP, steps=1), score, pictures[:1], ("a cat",))
    assert fooled.steps == 1


def test_prompts_are_encoded_once(
    mini: Encoder, small_photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    encode = mini.encode_texts

    def counted(texts: Sequence[str]) -> Tensor:
        asked.append(list(texts))
        return encode(texts)

    monkeypatch.setattr(mini, "encode_texts", counted)
    score = CLIPScore(mini)
    targets = TargetCache(score)
    for picture in small_photos:
        read_figures(score, [score.preprocess.image(picture)], [targets(("a cat", "a dog"))])
    list(core_score([Sample("photo", picture, ("a cat", "a dog")) for picture in small_photos], score))
    assert asked == [["a cat", "a dog"]]  # once by both streams
    many = tuple(f"number {number}" for number in range(MOST_PROMPTS + 1))
    for prompts in (("a cat", "a dog"), many):
        for scorer in (CLIPScore(mini), score):
            TargetCache(scorer)(prompts)
    assert [len(texts) for texts in asked] == [2, 2, len(many), len(many)]  # another score remembers for itself
    TargetCache(score)(many)
    assert len(asked) == 5  # many would take much memory
    for number in range(LATEST):
        TargetCache(score)((f"number {number}",))
    TargetCache(score)(("a cat", "a dog"))
    assert asked[-1] == ["a cat", "a dog"]  # forgotten since


@pytest.mark.parametrize("kind", [MeanEnsemble, MinEnsemble])
def test_its_value_is_the_mean_or_the_lowest_of_theirs(
    members: tuple[CLIPScore, CLIPScore], pictures: list[Tensor], kind: type[MeanEnsemble | MinEnsemble]
) -> None:
    several = kind(members)
    pixels = [picture / 255 for picture in pictures]
    ours = [
        raw_scores_of_pixels(several, pixels, [ARTWORKS] * 2, 2)[0][0],
        raw_scores_of(several, to_image(pictures[0]), ARTWORKS),
    ]
    theirs = [
        torch.stack([raw_scores_of_pixels(m, pixels, [ARTWORKS] * 2, 2)[0][0] for m in members]),
        torch.stack([raw_scores_of(m, to_image(pictures[0]), ARTWORKS) for m in members]),
    ]
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b.mean(0) if kind is MeanEnsemble else torch.minimum(*b), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MeanEnsemble, MinEnsemble])
def test_every_member_is_fooled(
    members: tuple[CLIPScore, CLIPScore], pictures: list[Tensor], kind: type[MeanEnsemble | MinEnsemble]
) -> None:
    several, prompts = kind(members), ARTWORKS[:3]
    attack = make_plan(FoCLIP, steps=20, budgets="psnr:33", batch_size=2)
    together = fooled_by(attack, several, pictures, prompts)
    for fooled, original in zip(together, pictures, strict=True):
        assert fidelity(fooled.pixels, original).psnr >= 33.0
        for member in members:
            before, after = (raw_scores_of(member, to_image(x), prompts) for x in (original, fooled.pixels))
            assert after.mean() > before.mean() + 0.02, member.model
    (alone,) = fooled_by(attack, several, pictures[1:], prompts)
    assert torch.equal(alone.pixels, together[1].pixels)


def test_members_over_one_encoder_share_its_pass(mini: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    several, passes = MeanEnsemble([CLIPScore(mini), CLIPScore(mini, prefix="A photo depicts")]), list[int]()
    compute = OpenClipEncoder.features

    def features(encoder: OpenClipEncoder, inputs: Tensor) -> Tensor:
        passes.append(len(inputs))
        return compute(encoder, inputs)

    monkeypatch.setattr(OpenClipEncoder, "features", features)
    pixels = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
    (raw,) = raw_scores_of_pixels(several, [pixels], [("a cat",)], 2)
    assert passes == [2]
    each = [raw_scores_of_pixels(member, [pixels], [("a cat",)], 2)[0] for member in several.scorers]
    assert torch.equal(raw, torch.stack(each).mean(0))


def test_what_it_is_called_and_made_of(members: tuple[CLIPScore, CLIPScore], iqa: CLIPIQA) -> None:
    mean, swapped = MeanEnsemble(members), MeanEnsemble(members[::-1])
    assert mean.model == "mini + tiny-40"
    assert (mean.info.scale, mean.info.floor, mean.info.temperature) == (2.5, 0.25, 0.01)
    named = {score.fingerprint for score in (mean, swapped, MinEnsemble(members), *members, iqa)}
    assert len(named) == 6


def test_members_must_fit(mini: Encoder, score: CLIPScore) -> None:
    with pytest.raises(UsageError, match="at least one"):
        MeanEnsemble([])
    elsewhere = CLIPScore(tiny(0, 40))
    elsewhere.encoder.device = torch.device("meta")
    with pytest.raises(UsageError, match=r"tiny-40: 2\.5, meta"):
        MeanEnsemble([score, elsewhere])
    with pytest.raises(UsageError, match="one scale"):
        MeanEnsemble([score, CLIPScore(mini, 100)])


def test_a_score_by_name(mini: Encoder, score: CLIPScore) -> None:
    assert isinstance(resolve("mini"), CLIPScore)
    assert resolve(mini, "clip-iqa").info.name == "clip-iqa"
    assert resolve(score) is score
    assert resolve(score, "clip-iqa") is score  # what is one already stays
    with pytest.raises(UsageError, match=r"^score: 'x' is none of clipscore, clip-iqa, "):
        resolve(mini, "x")


def test_prompts_as_a_tuple() -> None:
    assert as_prompts(["a", "b"]) == ("a", "b")
    for wrong in ("a dog", [], (), [1], [["a"]], None):
        with pytest.raises(UsageError, match="prompts"):
            as_prompts(wrong)  # type: ignore[arg-type]
