"""For the encoder that users have: a detector of clean pictures alone, and verdicts without any."""

import json
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from conftest import Checkpoints, Run
from zoo import tiles

from foclip.api import detect
from foclip.detection.detector import Detector
from foclip.detection.peers import LEAST
from foclip.errors import UsageError
from foclip.models import Encoder, load_encoder
from foclip.scanning import Settings, scan

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_embedded_once", "_passes_once")]

#: Pictures of the folder.
COUNT = 44


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small pictures, with captions beside all but four of them."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, tile in enumerate(tiles(COUNT, 48)):
        tile.save(folder / f"{number:02d}.png")
        if number < COUNT - 4:
            (folder / f"{number:02d}.txt").write_text("a photo of a cat.")
    return folder


@pytest.fixture(scope="module")
def model(checkpoints: Checkpoints) -> str:
    return f"small-ViT/{checkpoints['small-ViT']}"


@pytest.fixture(scope="module")
def encoder(model: str) -> Encoder:
    return load_encoder(model)


def test_a_folder_is_its_own_reference(folder: Path, model: str, run: Run, tmp_path: Path) -> None:
    code, text, errors = run("detect", folder, "--model", model, "--json", "--out", tmp_path / "report")
    assert code == 0, errors
    assert f"reference: these {COUNT} pictures" in errors
    assert "foclip calibrate --model" in errors
    rows = json.loads(text)
    assert {row["detector"] for row in rows} == {f"these {COUNT} pictures"}
    assert {row["decided_by"] for row in rows} == {"peers without prompts"}
    assert all(row["p_value"] <= row["q_value"] + 1e-9 <= 1 + 1e-9 for row in rows)
    assert "their own reference" not in errors
    assert "Reference: these pictures themselves" in (tmp_path / "report" / "verdicts.html").read_text()


def test_too_few_pictures_are_refused_before_they_are_read(folder: Path, model: str, run: Run) -> None:
    code, _, errors = run("detect", *sorted(folder.glob("*.png"))[:3], "--model", model)
    assert code == 2
    assert f"3 pictures are too few to be their own reference, which takes {LEAST}" in errors


def test_what_takes_a_detector_is_refused(folder: Path, encoder: Encoder) -> None:
    for options in ({"fpr": 0.05}, {"method": "rule"}, {"hardened": ["mini-robust"]}):
        with pytest.raises(UsageError, match="this takes a detector, and none comes with small-ViT"):
            detect(folder, model=encoder, **options)
    with pytest.raises(UsageError, match="fdr"):
        detect(folder, fdr=0.1)
    with pytest.raises(UsageError, match="fdr"):
        detect(folder, model=encoder, fdr=1.5)


def test_clean_pictures_make_a_detector(folder: Path, model: str, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "d.json"
    code, text, errors = run("calibrate", "--clean", folder, "--model", model, "--out", out, "--json")
    assert code == 0, errors
    assert f"{COUNT} clean pictures can promise at most 2.23 % false alarms" in errors
    found = json.loads(text)
    assert found["passes_per_picture"] <= 15
    assert [row["clean"] for row in found["methods"]] == [COUNT] * 2
    assert all(row["false_alarms"] <= 0.0223 for row in found["methods"])
    assert "of clean pictures like these at most 2.23 %" in (tmp_path / "d.html").read_text()
    made = Detector.load(out)
    assert made.fpr == 0.0223
    (tmp_path / "one").mkdir()
    code, text, errors = run("detect", folder / "00.png", "--model", model, "--detector", out, "--json")
    assert code == 0, errors
    assert json.loads(text)[0]["decided_by"] == "combined without prompts"
    code, _, errors = run("detect", folder, "--detector", out)  # of another encoder
    assert code == 2
    assert "was calibrated on" in errors


def test_hardened_encoders_are_further_probes(folder: Path, run: Run, tmp_path: Path) -> None:
    out, twin = tmp_path / "d.json", "mini-vit-robust-44"
    call = ("calibrate", "--clean", folder, "--model", "mini-vit", "--out", out, "--json")
    code, text, errors = run(*call, "--hardened", twin)
    assert code == 0, errors
    # Twice the picture, six probes, the hardened encoder and the probe that comes with it; and once to find a caption.
    assert json.loads(text)["passes_per_picture"] == 2 * 9 + 1
    assert Detector.load(out).hardened == {twin: load_encoder(twin).fingerprint}
    detecting = ("detect", folder / "00.png", "--model", "mini-vit", "--detector", out, "--json")
    code, text, errors = run(*detecting, "--prompt", "a photo of a cat.")
    assert code == 0, errors
    (row,) = json.loads(text)
    assert row["probes"][-1] == twin
    assert row["decided_by"] == "combined"
    code, _, errors = run(*call, "--hardened", "mini-robust")
    assert code == 2
    assert "mini-robust is no hardened version of mini-vit" in errors


def test_rows_of_a_scan_are_their_own_reference(folder: Path, encoder: Encoder, tmp_path: Path) -> None:
    """Neither chunks, workers nor a stop between the passes change a row."""
    rows = []
    for name, settings in (("a", Settings(workers=1, batch_size=7)), ("b", Settings(workers=2, batch_size=32))):
        found = scan([folder], tmp_path / name, model=encoder, settings=settings)
        rows.append(parquet.read_table(found.part(0)))
    assert repr(rows[0].to_pylist()) == repr(rows[1].to_pylist())  # NaN is not NaN
    table = rows[0].to_pandas()
    assert set(table.verdict) <= {"clean", "tampered"}
    assert (table.decided_by == "peers").sum() == COUNT - 4
    assert table.q_value.between(0, 1).all()
    # As the first pass leaves it.
    part = found.part(0)
    bare = rows[1].to_pylist()
    for row in bare:
        row |= dict.fromkeys(("verdict", "tampered", "p_value", "q_value", "decided_by", "probe", "drop", "drift"))
    parquet.write_table(rows[1].from_pylist(bare, schema=rows[1].schema.remove_metadata()), part)
    scan([folder], tmp_path / "b", model=encoder)
    assert repr(parquet.read_table(part).to_pylist()) == repr(rows[1].to_pylist())
    before = part.stat().st_mtime_ns
    scan([folder], tmp_path / "b", model=encoder)
    assert part.stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="another share of false discoveries"):
        scan([folder], tmp_path / "b", model=encoder, fdr=0.2)


def test_a_scan_of_scores_alone(folder: Path, model: str, run: Run, tmp_path: Path) -> None:
    code, text, errors = run("scan", folder, "--model", model, "--out", tmp_path / "s", "--scores-only", "--json")
    assert code == 0, errors
    assert json.loads(text)["judged"] == 0
    code, text, errors = run("scan", folder, "--model", model, "--out", tmp_path / "v", "--json")
    assert code == 0, errors
    assert "the rows are their own reference" in errors
    assert json.loads(text)["judged"] == COUNT
    assert "these rows are their own reference" in (tmp_path / "v" / "report.html").read_text()
