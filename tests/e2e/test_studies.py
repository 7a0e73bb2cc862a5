import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from calling import started
from conftest import Checkpoints, Run, fooled_by, raw_scores_of
from PIL import Image
from zoo import tiles

import foclip
import foclip.studies
from benchmarks import taken
from foclip.attacks import FoCLIP, make_plan
from foclip.data.images import read, to_image, to_tensor
from foclip.detection import TRANSFORMATIONS, FullDetector, Verdict, View, transformation
from foclip.detection.transformations import FURTHER
from foclip.models import Encoder, load_encoder
from foclip.models.batching import raw_scores, read_scores
from foclip.models.scores import CLIPScore
from foclip.runs import provenance
from foclip.studies import (
    adaptive,
    artworks,
    available,
    cross,
    detectors,
    filter,
    harness,
    hub,
    hub_caption,
    imagenet,
    long,
    pushed,
    robust,
    sweep,
    tau,
)
from foclip.studies.harness import (
    BUDGET,
    StudyContext,
    StudyReport,
    StudyResult,
    StudySettings,
    attacks,
    hardening,
    pictures,
    several,
    statistics,
)
from foclip.studies.harness import context as contexts
from foclip.studies.harness import read as read_study
from foclip.studies.harness import reproduce as reproduce_study
from foclip.studies.harness.context import candidates
from foclip.studies.harness.detectors import detector, judged
from foclip.studies.harness.pictures import Picture, crops, shipped
from foclip.studies.harness.statistics import area, auc, effect, estimate, mean, relative_drop, relative_gain, share
from foclip.studies.imagenet import draw
from foclip.studies.modality_gap import Shifted
from foclip.studies.spectrum import POWER, RINGS, frequencies, local_statistics, planes, radial_spectrum
from foclip.studies.spectrum import report as spectrum_report

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")

ALL = [
    "ablation",
    "adaptive",
    "artworks",
    "cross",
    "detectors",
    "filter",
    "grayscale",
    "hub",
    "hub_caption",
    "imagenet",
    "long",
    "modality_gap",
    "pushed",
    "robust",
    "spectrum",
    "sweep",
    "tau",
    "transfer",
    "visible",
]
#: Those that take seconds however tiny a run is.
SLOW = (
    *("ablation", "adaptive", "artworks", "cross", "detectors", "imagenet", "modality_gap", "pushed", "robust"),
    *("spectrum", "sweep", "visible"),
)
#: What makes a run tiny, here and in a process of its own.
GRIDS = {"WEIGHTS": ((0.1, 1.0),) * 2, "STEPS": ((7.0, 70.0),) * 2, "MOMENTA": ((0.0, 0.5),) * 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_photos: list[Image.Image]) -> Path:
    """Three small pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, picture in zip("abc", small_photos, strict=False):
        picture.resize((64, 48)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudySettings, "steps", 2)
        patch.setattr(StudySettings, "count", 3)
        patch.setattr(harness, "DPI", 50)
        patch.setattr(adaptive, "ATTACKER_SEEDS", range(2))
        patch.setattr(adaptive, "DETECTOR_SEEDS", range(1000, 1002))
        patch.setattr(adaptive, "MORE", ("mirror",))
        patch.setattr(artworks, "QUERIES", 1)
        patch.setattr(long, "QUICK", (1, 2))
        patch.setattr(imagenet, "COUNTS", (25, 100))
        patch.setattr(detectors, "QUERIES", 1)
        patch.setattr(attacks, "CROPS", 4)
        patch.setattr(hub, "COUNTS", (5, 20))
        patch.setattr(pushed, "BUDGETS", (35.0, 40.0))
        patch.setattr(hub_caption, "QUICK", 512)
        patch.setattr(statistics, "RESAMPLES", 20)
        patch.setattr(pictures, "CORNERS", pictures.CORNERS[:4])
        patch.setattr(robust, "BUDGETS", (BUDGET, 45.0))
        patch.setattr(robust, "RADII", (38.0,))
        patch.setattr(robust, "STARTS", 2)
        patch.setattr(robust, "QUERIES", 1)
        patch.setattr(robust, "FEW", 2)
        patch.setattr(contexts, "CANDIDATES", 20)
        patch.setattr(hardening, "QUICK", 1)
        for name, grid in GRIDS.items():
            patch.setattr(sweep, name, grid)
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def score(toys: None) -> CLIPScore:
    """A score whose model does not matter: one over the encoder of two random layers."""
    return CLIPScore(load_encoder("toy-clip:3"))


@pytest.fixture(scope="module")
def context(score: CLIPScore, folder: Path, out: Path) -> StudyContext:
    return StudyContext([score], out, StudySettings(quick=True, images=folder, paintings=folder))


@pytest.fixture(scope="module")
def trained(checkpoints: Checkpoints, folder: Path, out: Path) -> StudyContext:
    """For the study that hardens encoders: one of open_clip's, small."""
    encoder = load_encoder(f"small-ViT/{checkpoints['small-ViT']}")
    return StudyContext([CLIPScore(encoder)], out, StudySettings(quick=True, images=folder, paintings=folder))


@pytest.fixture
def _hardened_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hardened version comes with the encoder of `score`, for attackers who know it."""
    known = SimpleNamespace(HARDENED={"toy-clip:3": ("toy-clip:4",)}, names=lambda: ["toy-clip:4"])
    monkeypatch.setattr("foclip.detection.detector.embedded", known)


#: The encoder of `score`, on the command line.
TOY = ("--model", "toy-clip:3")


def reproduce(name: str, context: StudyContext, out: Path) -> StudyResult:
    return reproduce_study(available()[name], context, out)


@pytest.fixture(scope="module")
def artworks_done(context: StudyContext, out: Path) -> StudyResult:
    return reproduce("artworks", context, out)


def test_every_study_is_found() -> None:
    assert list(available()) == ALL


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in ALL])
def test_a_study_gives_a_table_figures_and_findings(
    name: str, context: StudyContext, trained: StudyContext, out: Path, request: pytest.FixtureRequest
) -> None:
    if name == "adaptive":
        request.getfixturevalue("_hardened_toy")
    done = reproduce(name, trained if name == "robust" else context, out)
    table = pd.read_parquet(out / name / "table.parquet")
    assert len(table) == done.rows > 0
    assert not table.duplicated().any()
    pd.testing.assert_frame_equal(table, pd.read_csv(out / name / "table.csv"), check_dtype=False)
    assert "seconds" not in table.columns
    assert done.report.figures.keys() == {path.stem for path in (out / name).glob("*.png")}
    assert done.report.figures.keys() == {path.stem for path in (out / name).glob("*.svg")}
    assert done.report.findings
    assert not any(re.search(r"\bnan\b", sentence) for sentence in done.report.findings)  # "+nan" too
    assert done.title
    assert done.question
    for row in done.report.summary.to_dict("records"):
        taken.row(name, row)  # docs/results.md can print it: each column has a format in benchmarks/formats.py


@pytest.mark.slow
def test_adaptive_attackers_of_an_encoder_without_a_hardened_version(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The minimum of the encoder and its hardened encoders is then its own score."""
    monkeypatch.setattr(adaptive, "BUDGETS", (BUDGET,))
    table = adaptive.table(context)
    assert adaptive.ITSELF in set(table.attacker)
    assert adaptive.TOO not in set(table.attacker)
    assert (table.lowest == table.score).all()
    assert (table["gain of the minimum"] == table.gain).all()
    assert any(f"Of {adaptive.LOWEST}, nobody gains" in sentence for sentence in adaptive.report(table).findings)


@pytest.mark.slow
def test_artworks_compares_every_attack_within_the_budget(artworks_done: StudyResult, out: Path) -> None:
    table = pd.read_csv(out / "artworks" / "table.csv")
    within = table[table.settings == "35 dB"]
    assert set(within.attack) == {"FoCLIP", "PGD", "MI-FGSM", "Adam", "one prompt", "CMA-ES"}
    assert within.psnr.dropna().min() >= 35
    assert table[table.settings == "authors'"].psnr.min() < 35
    assert set(table[table.settings == "as it is"].attack) == {"original", "real painting"}
    fooled, original = (table[table.attack == name].score.mean() for name in ("FoCLIP", "original"))
    assert fooled > original


@pytest.mark.slow
def test_artworks_without_paintings(score: CLIPScore, folder: Path, artworks_done: StudyResult, out: Path) -> None:
    """Nobody needs a folder of paintings; the report says which row is missing."""
    without = StudyContext([score], out, StudySettings(quick=True, images=folder))  # with the same cache
    table = artworks.table(without)
    whole = pd.read_parquet(out / "artworks" / "table.parquet")
    columns = ["attack", "settings", "picture", "score"]
    pd.testing.assert_frame_equal(
        table[columns], whole.loc[whole.attack != "real painting", columns].reset_index(drop=True)
    )
    report = artworks.report(table)
    assert [row for row in report.findings if "--paintings" in row]
    assert len(report.comparisons) == 1


@pytest.mark.parametrize("prompts", [None, [], ["a cat", "a dog"]])
def test_no_pictures_give_no_results(context: StudyContext, prompts: list[str] | None) -> None:
    assert context.fool(context.default_attack(), [], prompts) == []
    assert context.scores([], prompts).shape == (0, len(prompts or context.prompts))
    assert context.sensitivities([], prompts) == []
    assert context.rows([], prompts, attack="none") == []


def test_scores_of_several_kinds_have_one_unit(context: StudyContext) -> None:
    """Standard deviations among clean photographs; what needs another model is left out, and named."""
    fooled, clean = several.split(context)
    assert {picture.name for picture in [*fooled, *clean]} == {"a.png", "b.png", "c.png"}
    assert len(fooled) == 1
    found, missing = several.asked(context, clean)
    assert {"clipscore", "clip-iqa"} <= found.keys()
    assert {"siglip", "pickscore", "hpsv2", "aesthetic", "blip-itm", "imagereward", "vqascore"} <= {*missing}
    values = np.array([0.2, 0.4, 0.6])
    by = several.Asked(context.score, ("a cat",), values)
    assert [by.mean, by.deviation, by.most] == pytest.approx([0.4, 0.2, 2.5])
    np.testing.assert_allclose(by.units(values), [-1, 0, 1], atol=1e-12)
    np.testing.assert_allclose(by.above(np.array([0.1, 0.4, 0.7])), [0, 1 / 3, 1])
    ensemble = cross.StandardEnsemble([found["clipscore"], found["clip-iqa"]])
    (raw,) = raw_scores_of(ensemble, fooled[0].image, ("whatever",))
    parts = []
    for by in (found["clipscore"], found["clip-iqa"]):
        values = raw_scores_of(by.scorer, fooled[0].image, by.prompts).double().numpy() * by.scorer.info.scale
        parts.append(float(by.units(values)[0]))
    assert float(raw) == pytest.approx(np.mean(parts), abs=1e-4)
    assert ensemble.in_precision(torch.bfloat16).fingerprint == ensemble.fingerprint


@pytest.mark.slow
def test_a_score_without_an_embedding_is_pushed_and_compared_with_nothing(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    import families  # which imports transformers

    blip = families.write("blip", tmp_path / "blip")
    words = ("--quick", "--images", folder, "--score", "blip-itm", "--model", blip, "--out", tmp_path)
    code, text, err = run("reproduce", "pushed", *words, "--json")
    assert code == 0, err
    assert "Left out" in text
    table = pd.read_csv(tmp_path / "pushed" / "table.csv")
    assert set(table.scored_by) == {"blip-itm"}
    assert (table.score <= 1).all()
    code, _, err = run("reproduce", "pushed", "transfer", *words)
    assert code == 2
    assert "blip-itm has no embedding" in err


@pytest.mark.slow
def test_filter_keeps_what_the_scan_lets_through(
    mini: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StudySettings, "steps", 8)
    known = adaptive.attackers  # who knows the detector averages over all of its probes; one is enough here

    def attackers(*given: Any) -> dict[str, adaptive.Attacker]:
        return {name: attacker._replace(views=attacker.views[:1]) for name, attacker in known(*given).items()}

    monkeypatch.setattr(filter, "attackers", attackers)
    (tmp_path / "pictures").mkdir()
    for number, tile in enumerate(tiles(20, 64)):
        tile.save(tmp_path / "pictures" / f"{number:02d}.png")
        (tmp_path / "pictures" / f"{number:02d}.txt").write_text(f"a photo of {number} things")
    context = StudyContext([CLIPScore(mini)], tmp_path / "out", StudySettings(quick=True, images=tmp_path / "pictures"))
    table = filter.table(context)
    ways = [filter.NOT, filter.FAR, filter.JUST, filter.KNOWING, filter.MINIMISING]
    assert dict(table.groupby("way").size()) == dict.fromkeys(ways, 20)
    own = table.picture.str.removesuffix(".png").astype(int).map("a photo of {} things".format)
    assert (table.mismatched == (table.caption != own)).all()
    assert not (table.kept & (table.tampered | ~table.passes)).any()
    assert (table.kept == (table.passes & ~table.tampered)).all()
    assert not (table.kept_seed & ~table.passes).any()
    assert not (table.kept_lowest & table.tampered).any()
    clean, bad = table[~table.mismatched].pivot(index="picture", columns="way", values="score"), table[table.mismatched]
    assert (clean.nunique(axis=1) == 1).all()  # nobody touched them
    means = {way: part.score.mean() for way, part in bad.groupby("way")}
    assert means[filter.NOT] < means[filter.JUST] < means[filter.FAR]
    for _, part in table.groupby("way"):
        assert part.passes.sum() == 6
        assert part.score[part.passes].min() > part.score[~part.passes].max()
    findings = filter.report(table).findings
    assert f"{int((bad.kept & (bad.way == filter.FAR)).sum())} with the detector" in findings[1]


def test_a_hub_comes_first_where_no_genuine_photograph_scores_as_much(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = np.array([[0.5, 0.2, 0.9, 0.1], [0.7, 0.8, 0.9, 0.9]])
    monkeypatch.setattr(context, "scores", lambda pictures, captions: scores)
    highest = np.array([0.4, 0.3, 0.9, 0.0])  # as high as a genuine photograph is not first
    one, other = hub.ranked(context, context.pictures[:2], list("abcd"), highest, 2, file="here")
    assert (one["first"], one["first_others"]) == (0.5, 0.5)
    assert (other["first"], other["first_others"]) == (1.0, 0.5)
    assert one["score"] == pytest.approx(0.35)
    (everything, _) = hub.ranked(context, context.pictures[:2], list("abcd"), highest, 4)
    assert everything["first"] == 0.5
    assert np.isnan(everything["first_others"])


def test_a_hub_is_not_ranked_among_itself(context: StudyContext) -> None:
    table = hub.table(context)
    own = {picture.photo for picture in context.pictures[: hub.QUICK]}
    assert set(table.photo) == own
    assert set(table.genuine) == {sum(picture.photo not in own for picture in context.pictures)}
    saved = hub.saved(context.pictures[0])
    assert saved.image.size == context.pictures[0].image.size
    assert saved.digest != context.pictures[0].digest


def test_a_hub_caption_is_found_on_one_half_and_read_on_the_other(context: StudyContext) -> None:
    table = hub_caption.table(context)
    photos = sorted(picture.photo for picture in context.pictures)
    assert set(table.photo) == set(photos[1::2])
    texts = table.groupby("caption").text.first()
    assert set(texts[hub_caption.WORDS].split()) <= set(hub_caption.pieces(hub_caption.WORDS))
    encoder = context.score.encoder
    searched = [picture for picture in context.pictures if picture.photo not in set(table.photo)]
    aim = encoder.encode_pictures([picture.image for picture in searched]).mean(dim=0)
    found, *others = (encoder.encode_texts([texts[hub_caption.WORDS], *candidates()]) @ aim).tolist()
    assert found > max(others)  # above each of the captions whose words it is made of


def test_filter_has_pictures_of_its_own(mini: Encoder, tmp_path: Path) -> None:
    context = StudyContext([CLIPScore(mini)], tmp_path, StudySettings(quick=True))
    pairs = filter.pairs(context)
    assert len({pair.picture.digest for pair in pairs}) == 3 * len(pictures.CORNERS)  # three photos, as tests have it
    assert sum(pair.mismatched for pair in pairs) == round(0.1 * len(pairs))


@pytest.mark.slow
def test_artworks_says_when_the_black_box_attack_is_missing(artworks_done: StudyResult, out: Path) -> None:
    report = read_study(artworks.study, out).report
    assert not any("pip install cma" in sentence for sentence in report.findings)
    without = pd.read_csv(out / "artworks" / "table.csv").query("attack != 'CMA-ES'").assign(seconds=0.1)
    assert any("pip install cma" in sentence for sentence in artworks.report(without).findings)


@pytest.mark.slow
def test_artworks_shows_the_pictures(context: StudyContext) -> None:
    within, authors = artworks.gallery(context).values()
    titles = [axes.get_title() for axes in within.axes if axes.get_title()]
    assert titles == ["original", "FoCLIP", "PGD", "MI-FGSM", "Adam", "one prompt", "CMA-ES"]
    shown = np.asarray(within.axes[1].images[0].get_array())
    fooled = context.fool(context.default_attack(), context.pictures)[0]
    assert (shown == np.asarray(fooled.image)).all()
    assert within.axes[1].get_xlabel() == f"{context.scores([fooled]).mean():.2f}"
    assert [axes.get_title() for axes in authors.axes if axes.get_title()][-1] == "Adam"


@pytest.mark.slow
def test_a_finished_study_is_read_back_without_its_context(
    artworks_done: StudyResult, context: StudyContext, out: Path
) -> None:
    done = artworks_done
    again = read_study(artworks.study, out)
    pd.testing.assert_frame_equal(again.report.summary, done.report.summary)
    assert again.report.findings == done.report.findings
    assert again.report.comparisons == done.report.comparisons
    assert set(done.report.figures) - set(again.report.figures) == set(artworks.gallery(context))
    with pytest.raises(FileNotFoundError):
        read_study(artworks.study, out / "elsewhere")


def test_a_fooled_picture_is_made_once_and_read_back(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = context.default_attack()
    first = context.fool(attack, context.pictures)

    def never(*_: object) -> None:
        raise AssertionError("finished work was computed again")

    monkeypatch.setattr(type(attack.method), "update", never)
    again = context.fool(attack, context.pictures[::-1])[::-1]
    assert [a.digest for a in first] == [b.digest for b in again]
    assert [a.figures for a in first] == [b.figures for b in again]
    with pytest.raises(AssertionError, match="again"):
        context.fool(attack, context.pictures, ["another prompt"])


def test_a_vector_is_the_same_to_the_last_bit_in_a_run_that_goes_on(context: StudyContext) -> None:
    first = torch.randn(5)
    kept = context.vector("test", context.pictures, ["a"], lambda: first)
    assert torch.equal(kept.cpu(), first)
    rounded_otherwise = context.vector("test", context.pictures, ["a"], lambda: first + 1e-7)
    assert torch.equal(rounded_otherwise, kept)
    of_another_prompt = context.vector("test", context.pictures, ["b"], lambda: -first)
    assert torch.equal(of_another_prompt.cpu(), -first)


#: The settings of the sweep that is killed.
SHORT = [(StudySettings, "steps", 6), (StudySettings, "count", 2), *((sweep, *grid) for grid in GRIDS.items())]


def short_sweep() -> None:
    for home, name, value in SHORT:
        setattr(home, name, value)


@pytest.mark.slow
def test_killed_in_the_middle_of_a_sweep_gives_the_same_table(
    run: Run, toys: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for home, name, value in SHORT:
        monkeypatch.setattr(home, name, value)
    monkeypatch.setattr(harness, "png", lambda *_: b"")  # of its files, tables are looked at alone
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    call = ("reproduce", "sweep", "--quick", *TOY, "--images", str(folder), "--out")

    def finished(out: Path) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (out / "cache").glob("*.json")}

    process = started(*call, killed, prepare=short_sweep)
    deadline = time.monotonic() + 300
    while len(finished(killed)) < 8 and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    before = finished(killed)
    assert len(before) >= 8
    assert not (killed / "sweep").exists()
    for out in (killed, whole):
        assert run(*call, out)[0] == 0
    after = finished(killed)
    assert before.items() <= after.items()  # the same files, none written again
    assert after.keys() == finished(whole).keys()
    for name in ("table.csv", "table.parquet"):
        assert (killed / "sweep" / name).read_bytes() == (whole / "sweep" / name).read_bytes()


@pytest.mark.slow
def test_reproduce_on_the_command_line(run: Run, toys: None, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for path in folder.iterdir():
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudySettings, "count", 4)
        call = (
            "reproduce",
            "grayscale",
            "tau",
            "--quick",
            *TOY,
            "--images",
            tmp_path / "in",
            "--out",
            tmp_path / "out",
        )
        code, text, errors = run(*call, "--json")
    assert code == 1  # one input failed, the rest is done
    assert "text.jpg" in errors
    answer = json.loads(text)
    assert [study["name"] for study in answer["studies"]] == ["grayscale", "tau"]
    drops = {figure["paper"]: figure["ours"]["value"] for figure in answer["studies"][0]["comparisons"]}
    assert drops.keys() == {0.085, 0.632}
    settings = json.loads((tmp_path / "out" / "run.json").read_text())
    assert settings["pictures"] == ["a.png", "b.png", "c.png"]
    assert settings["settings"]["quick"] is True
    assert (settings["studies"], settings["parts"]) == (["grayscale", "tau"], provenance.parts())
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count("<svg") == 2
    assert "91.0 %" in report
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudySettings, "count", 4)
        options = ("--quick", *TOY, "--images", tmp_path / "in", "--out", tmp_path / "out")
        assert run("reproduce", "tau", *options)[0] == 1
    later = (tmp_path / "out" / "report.html").read_text()
    for name in ("grayscale", "tau"):  # a later call keeps earlier studies
        assert f'<section id="{name}">' in report
        assert f'<section id="{name}">' in later


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "choose from ablation, "),
        (("tau", "--images", "{tmp}/missing"), "--images"),
        (("tau", "--images", "{tmp}"), "--images: no pictures"),
        (("artworks", "--paintings", "{tmp}/missing"), "--paintings"),
        (("transfer", "--also", "nonsense"), "unknown encoder"),
    ],
)
def test_wrong_calls(run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    filled = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    code, text, errors = run("reproduce", *filled, "--quick", "--out", tmp_path / "out")
    assert (code, text) == (2, "")
    assert message in errors
    assert len(errors.strip().splitlines()) == 1


def test_interrupted(run: Run, toys: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fool, calls = StudyContext.fool, 0

    def interrupt(self: StudyContext, *arguments: object, **more: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return fool(self, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(StudyContext, "fool", interrupt)
    code, _, errors = run("reproduce", "sweep", "--quick", *TOY, "--images", folder, "--out", tmp_path / "out")
    assert code == 130
    assert "interrupted" in errors
    assert list((tmp_path / "out" / "cache").glob("*.png"))


def test_a_study_is_one_file(
    run: Run,
    toys: None,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guide = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (tmp_path / "brightness.py").write_text(guide.split("/brightness.py\n")[1].split("```")[0], encoding="utf-8")
    monkeypatch.setattr(foclip.studies, "__path__", [*foclip.studies.__path__, str(tmp_path)])
    code, _, _ = run("reproduce", "brightness", "--quick", *TOY, "--images", folder, "--out", tmp_path / "out")
    assert code == 0
    report = (tmp_path / "out" / "report.html").read_text()
    assert "do fooled pictures get brighter?" in report
    assert "Fooled pictures have a mean level of" in report
    assert len(pd.read_csv(tmp_path / "out" / "brightness" / "table.csv")) == 6


def test_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    rng = np.random.default_rng(1)
    values, photos = rng.normal(5, 1, 200), np.arange(200)
    found = mean(values, photos)
    assert found.low < 5 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.1)
    copies = mean(np.repeat(values, 10), np.repeat(photos, 10))  # ten crops of a photo are no ten photos
    assert copies.high - copies.low == pytest.approx(found.high - found.low, rel=0.1)
    assert copies.photos == 200
    alone = mean([1.0, 2.0], ["one photo", "one photo"])
    assert alone.value == 1.5
    assert np.isnan(alone.low)
    assert f"{alone:.1f}" == "1.5"
    assert f"{estimate(np.mean, [np.nan], photos=['a']):.1f}" == "–"
    assert f"{mean([0.25, 0.25], ['a', 'b']):.0%}" == "25 % [25 %, 25 %]"


def test_effects() -> None:
    rng = np.random.default_rng(2)
    a, b, photos = rng.normal(0, 1, 4000), rng.normal(1, 1, 4000), np.arange(4000)
    assert effect(a[:500], b[:500], photos[:500]).value == pytest.approx(1, abs=0.15)
    assert area(a, b) == pytest.approx(0.76, abs=0.02)  # Φ(1 / √2)
    assert area([0, 0], [0, 0]) == 0.5
    assert auc([0, 1, 2], [3, 4, 5], list("abc")).value == 1
    assert relative_gain([1.0, 3.0], [3.0, 5.0], list("ab")).value == 1
    assert relative_drop([1.0, 3.0], [0.5, 1.5], list("ab")).value == 0.5
    eight = share([True] * 8, range(8))
    assert (eight.value, eight.high) == (1, 1)
    assert eight.low == pytest.approx(0.025 ** (1 / 8))


def test_shipped_photos_and_crops(tmp_path: Path) -> None:
    assert len(shipped()) == len({path.name for path in shipped()}) == 11
    assert all(path.is_file() for path in shipped())
    found = crops(shipped()[:1], 4, 64)
    assert len({picture.digest for picture in found}) == 4
    assert {picture.photo for picture in found} == {"astronaut.png"}
    assert max(found[0].image.size) == 64


def test_caption_draws_do_not_overlap_and_are_repeated() -> None:
    optimised, unseen = draw(0, 1)
    assert len(set(optimised) | set(unseen)) == 200
    assert draw(0, 1) == (optimised, unseen)
    assert draw(0, 2)[0] != optimised
    assert draw(1, 1)[0] != optimised


@pytest.mark.slow
def test_without_prompts_studies_judge_what_detect_judges(
    mini: Encoder, small_photos: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, prompts = CLIPScore(mini), ("a photo of a cat.",)
    plan = make_plan(FoCLIP, steps=12, budgets="psnr:48")
    fooled = [to_image(each.pixels) for each in fooled_by(plan, score, list(map(to_tensor, small_photos[:4])), prompts)]
    context = StudyContext([score], tmp_path, StudySettings(quick=True))
    verdicts: list[Verdict] = []
    judge = FullDetector.judge

    def told(*arguments: Any) -> Verdict:
        verdicts.append(judge(*arguments))
        return verdicts[-1]

    with monkeypatch.context() as patch:
        patch.setattr(FullDetector, "judge", told)
        judged(context, detector(context, score), [Picture(f"{n}", f"{n}", each) for n, each in enumerate(fooled)])
    wanted = [each.p_value or 0.0 for each in foclip.detect(fooled, model=score).results]
    assert [each.p_value for each in verdicts[2::3]] == pytest.approx(wanted, abs=1e-3)
    assert min(wanted) < 0.2  # in doubt to the last probe, where the caption counts


@pytest.mark.parametrize("name", [*TRANSFORMATIONS, *FURTHER])
def test_the_adaptive_attacker_sees_what_the_detector_sees(
    mini: Encoder, name: str, small_photos: list[Image.Image]
) -> None:
    picture = to_image(mini.preprocess.image(small_photos[1]))  # of the encoder's size: no second resize
    pixels = (to_tensor(picture).float() / 255)[None].requires_grad_(True)
    seen = View(name, mini.preprocess)(pixels)
    exact = to_tensor(transformation(name).exact(picture))
    assert torch.equal((seen.detach()[0] * 255).round().to(torch.uint8), exact)
    (gradient,) = torch.autograd.grad(seen.square().sum(), pixels)
    assert gradient.abs().max() > 0
    if surrogate := transformation(name).surrogate:  # close to the real one: within a few levels on average
        smooth = surrogate(pixels.detach())[0] * 255
        assert (smooth - exact).abs().mean() < 2


def test_closing_the_gap_brings_pictures_and_texts_together(mini: Encoder, small_photos: list[Image.Image]) -> None:
    prompts = ("a cat", "a dog", "a car")
    pictures, texts = mini.encode_pictures(small_photos), mini.encode_texts(prompts)
    gap = pictures.mean(dim=0) - texts.mean(dim=0)
    means = []
    for closed in (0.0, 0.5, 1.0):
        shifted = Shifted(mini, gap, closed)
        targets = shifted.encode_prompts(prompts)
        seen = [shifted.preprocess.image(picture) for picture in small_photos]
        values = torch.stack(read_scores(shifted, seen, [targets] * 4))
        pixels = [shifted.preprocess.pixels(to_tensor(picture)[None] / 255) for picture in small_photos]
        assert torch.allclose(torch.cat(raw_scores(shifted, pixels, [targets] * 4, 4)), values, atol=0.01)
        assert torch.allclose(targets.norm(dim=1), torch.ones(3), atol=1e-5)
        means.append(float(values.mean()))
    assert means[0] == pytest.approx(float((pictures @ texts.T).mean()), abs=1e-5)
    assert means[0] < means[1] < means[2]
    assert len({Shifted(mini, gap, closed).fingerprint for closed in (0.0, 0.5)}) == 2


def test_spectrum_finds_a_wave_where_it_is() -> None:
    x = np.arange(64)
    wave = 100 * np.sin(2 * np.pi * 0.25 * x)[None, :] * np.ones((48, 1))
    assert radial_spectrum(wave).argmax() == RINGS // 2
    gray = Picture("", "", Image.fromarray(np.repeat((wave + 128).astype(np.uint8)[..., None], 3, axis=2)))
    bands = planes(gray)
    assert np.abs(bands["Cb"]).max() < 1e-3
    assert local_statistics(bands)["chroma share of the variance"] < 1e-6
    noise = np.random.default_rng(0).normal(0, 7, (200, 200))
    assert local_statistics({"Y": noise, "Cb": noise, "Cr": noise})["noise in Y"] == pytest.approx(7, rel=0.05)


def test_a_page_is_made_of_its_table_alone(context: StudyContext, out: Path) -> None:
    reproduce("tau", context, out)
    report = tau.report(pd.read_parquet(out / "tau" / "table.parquet"))
    assert isinstance(report, StudyReport)
    assert read(next(out.glob("tau/*.png"))).width > 100


def test_spectrum_counts_its_comparisons() -> None:
    """Of many quantities that differ by chance alone, none is said to differ; one that really does is."""
    rng = np.random.default_rng(0)
    photos = [f"{number}.png" for number in range(12)]
    rows = []
    for quantity in [
        *(f"noise {number}" for number in range(40)),
        "moved",
        "energy in Y",
        "energy in Cb",
        "energy in Cr",
    ]:
        kinds = ("perturbation",) if quantity.startswith("energy") else ("original", "fooled")
        for kind in kinds:
            shift = -3.0 if (quantity, kind) == ("moved", "fooled") else 0.0
            values = rng.normal(10 if quantity.startswith("energy") else shift, 1, len(photos))
            rows += [
                {"picture": photo, "photo": photo, "kind": kind, "quantity": quantity, "value": value}
                for photo, value in zip(photos, values, strict=True)
            ]
    power = [
        {"picture": "a", "photo": "a", "kind": kind, "quantity": POWER, "channel": band, "frequency": at, "value": 1.0}
        for kind in ("original", "fooled", "perturbation")
        for band in ("Y", "Cb", "Cr")
        for at in frequencies()
    ]
    report = spectrum_report(pd.DataFrame([*rows, *power]))
    assert "Of 41 quantities, 1 differ" in report.findings[0]
    assert "The strongest is moved: AUC 0.0" in report.findings[0]
    drawn: Any = report.figures["area-under-the-curve"].axes[0].patches
    lengths = [bar.get_width() for bar in drawn]
    assert max(lengths) == lengths[0] > 0.4  # the strongest quantity is the longest bar, on whichever side it lies
