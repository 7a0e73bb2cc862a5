import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run, file_score, fooled_by, scores_of
from PIL import Image
from zoo import tiles

from foclip.attacks import FoCLIP, make_plan
from foclip.data.images import to_image, to_tensor, write
from foclip.detection import Detection, Detector, transformation
from foclip.detection.detector import shipped
from foclip.models.scores import CLIPScore
from foclip.outcome import Failure, Outcome
from foclip.reports import detected, html
from foclip.reports.detected import UNSEEN, drawn, heat_map, spread
from foclip.runs.fooling import fool

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")

HOSTILE = '<script>alert("x")</script> & {{ 7 * 7 }}'


@pytest.fixture(scope="module")
def folder(score: CLIPScore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of real photos in `clean`, what FoCLIP made of them in `fooled`, and a detector."""
    base = tmp_path_factory.mktemp("detected")
    (base / "clean").mkdir()
    for number, tile in enumerate(tiles(3, side=100)):
        write(tile, base / "clean" / f"{number}.png")
    fool(
        [base / "clean"],
        "artworks",
        base / "fooled",
        model=score,
        attack=make_plan(FoCLIP, steps=15, budgets="psnr:35"),
    )
    replace(shipped(score.encoder), name="small", fpr=0.1).save(base / "small.json")
    return base


def detection(image: str, p_value: float | None, verdict: str = "clean", drop: float = 0.1) -> Detection:
    probes = ["jpeg"]
    return Detection(
        *(image, verdict == "tampered", verdict, 0.5, None, 0.4, drop, 0.1, p_value, "combined", "jpeg", probes, None),
        *("small", [HOSTILE], "mini"),
    )


@pytest.mark.slow
def test_the_report_of_a_command(run: Run, folder: Path, tmp_path: Path) -> None:
    clean, fooled = (sorted((folder / name).glob("*.png")) for name in ("clean", "fooled"))
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    out = tmp_path / "out"
    pictures = (*clean[:2], *fooled, broken)
    for prompts in (("--prompts", "artworks"), ()):
        arguments = (*pictures, *prompts, "--detector", folder / "small.json", "--out", out)
        code, text, errors = run("detect", *arguments, "--json")
        assert code == 1, errors
        found = json.loads(text)
        with (out / detected.TABLE).open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["image"] for row in rows] == [entry["image"] for entry in found]
        assert [row["verdict"] for row in rows] == [*(entry["verdict"] for entry in found[:-1]), "failed"]
        assert "broken.png" in rows[-1]["error"]
        for row, entry in zip(rows[:-1], found[:-1], strict=True):
            assert row["p_value"] == ("" if entry["p_value"] is None else str(entry["p_value"]))
            assert json.loads(row["prompts"]) == entry["prompts"]
        page = (out / detected.PAGE).read_text()
        tampered = sum(entry.get("tampered", False) for entry in found)
        assert tampered > 0
        assert f"5 pictures: {tampered} tampered" in page
        assert "broken.png: not a picture" in page
        assert page.count("map: what JPEG takes away") == tampered  # for its prompts, or for what it fits best
        assert str(clean) not in page  # names, not the folders of whoever made it
        titles = re.findall(r'<h2 title="([^"]*)"', page)
        places = [titles.index(name) for name in html.names([entry["image"] for entry in found[:-1]])]
        by_place = [entry["tampered"] for _, entry in sorted(zip(places, found[:-1], strict=True), key=lambda p: p[0])]
        assert by_place == sorted(by_place, reverse=True)
    recorded = json.loads((out / "run.json").read_text())
    assert (recorded["detector"], recorded["fpr"], len(recorded["earlier"])) == ("small", 0.1, 1)
    assert sorted(path.name for path in out.iterdir()) == ["run.json", detected.TABLE, detected.PAGE]
    rule = ("--method", "rule", "--prompts", "artworks", "--detector", folder / "small.json")
    code, text, _ = run("detect", clean[0], *rule, "--out", out)
    assert code == 0
    assert str(out / detected.PAGE) in text.replace("\n", "")
    assert "τ₁" in (out / detected.PAGE).read_text()


@pytest.mark.slow
def test_places_where_no_report_can_be(run: Run, folder: Path, tmp_path: Path) -> None:
    clean = folder / "clean"
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken" / detected.TABLE).mkdir(parents=True)
    for out in ("file", "taken"):
        code, text, errors = run("detect", clean, "--detector", folder / "small.json", "--out", tmp_path / out)
        assert (code, text) == (2, "")
        assert errors.startswith(f"error: --out: {tmp_path / out}")
        assert errors.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_names_prompts_and_errors_are_text(folder: Path, score: CLIPScore, tmp_path: Path) -> None:
    formula = "=cmd|' /C calc'!A0.png"
    found = Outcome(
        [detection(f"{HOSTILE}.png", 0.5), detection(formula, 0.2), detection("half \ud800.png", None, "undecidable")],
        [Failure("@gone.png", f"@gone.png: {HOSTILE}")],
    )
    detected.write(tmp_path, found, score, Detector.load(folder / "small.json"))
    page = (tmp_path / detected.PAGE).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "49" not in page.split("</style>")[1]
    assert page.count("The file has gone since") == 3
    with (tmp_path / detected.TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"{HOSTILE}.png", f"./{formula}", "half \\ud800.png", "./@gone.png"]
    assert json.loads(rows[0]["prompts"]) == [HOSTILE]
    assert not any(cell.startswith(detected.FORMULA) for row in rows for cell in row.values())


def test_the_most_suspicious_come_first_and_the_page_ends(
    folder: Path, score: CLIPScore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ps = [0.5, None, 0.01, 0.01, 0.9]
    found = [detection(str(n), p, "tampered" if p == 0.01 else "clean", n / 10) for n, p in enumerate(ps)]
    ordered = detected.suspicious_first(found)
    assert [entry.image for entry in ordered] == ["3", "2", "0", "4", "1"]
    monkeypatch.setattr(detected, "SHOWN", 2)
    seen: list[float] = []
    detected.write(
        tmp_path,
        Outcome([*found, *found, *found, *found, *found], []),
        score,
        Detector.load(folder / "small.json"),
        0.2,
        lambda text, total: lambda done, note="": seen.append(done),
    )
    page = (tmp_path / detected.PAGE).read_text()
    assert page.count("<section id=") == 2 == len(seen)
    assert "2 of 25 pictures" in page
    assert "p ≤ 0.2" in page
    assert page.count("<svg") == 1  # enough p-values for their histogram
    assert len((tmp_path / detected.TABLE).read_text().splitlines()) == 26


@pytest.mark.parametrize(
    ("tampered", "total", "bound", "said"),
    [
        (0, 0, None, "No picture was judged."),
        (0, 500, None, "None of these 500 pictures shows signs of an attack."),
        (0, 1, None, "This picture shows no sign of an attack."),
        (1, 1, None, "This picture was probably changed to raise its score."),
        # A bound of 2 % calls up to 10 of 500 clean pictures tampered, so three tell nothing.
        (3, 500, 0.02, "3 of 500 pictures are called tampered. Mistakes alone may give as many: 10.0 of 500"),
        (11, 500, 0.02, "11 of 500 pictures were probably changed to raise their scores."),
    ],
)
def test_the_summary_counts_mistakes(
    tampered: int, total: int, bound: float | None, said: str, score: CLIPScore, tmp_path: Path
) -> None:
    verdicts = ["tampered"] * tampered + ["clean"] * (total - tampered)
    found = Outcome([detection(str(tmp_path / f"{n}.png"), 0.5, verdict) for n, verdict in enumerate(verdicts)], [])
    page = detected.page(found, score, shipped(score.encoder), bound)
    (lead,) = re.findall(r'<p class="lead">\s*(.*?)\s*</p>', page, re.DOTALL)
    assert lead.startswith(said)


@pytest.mark.slow
def test_the_map_adds_up_and_finds_what_was_changed(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    """One half of each picture is a fooled one's, then the other: what the picture itself adds to a half cancels."""
    prompts = ("a photo of a castle.",)
    pictures = [to_image(score.preprocess.image(photo)) for photo in small_photos]
    fooled = fooled_by(
        make_plan(FoCLIP, steps=15, budgets="psnr:40"), score, [to_tensor(picture) for picture in pictures], prompts
    )
    shares = []
    for picture, result in zip(pictures, fooled, strict=True):
        for half in (slice(0, picture.width // 2), slice(picture.width // 2, None)):
            pixels = to_tensor(picture)
            pixels[..., half] = result.pixels[..., half]
            changed = to_image(pixels)
            found = heat_map(score, changed, prompts)
            assert torch.equal(found, heat_map(score, changed, prompts))
            lost = (
                file_score(score, pixels, prompts) - scores_of(score, transformation(UNSEEN).exact(changed), prompts)[0]
            )
            assert float(found.sum()) == pytest.approx(lost, abs=0.02)
            bright = spread(found).clip(min=0)
            shares.append(bright[:, half].sum() / bright.sum())
            shown = drawn(found, changed)
            assert (shown.size, shown.mode) == (changed.size, "RGB")
    assert np.mean(shares) > 0.75
    assert min(a + b for a, b in zip(shares[::2], shares[1::2], strict=True)) / 2 > 0.6  # in every picture
