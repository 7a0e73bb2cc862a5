"""`foclip scan`: every row of a data set once, whatever it holds and whatever happens on the way."""

import errno
import fcntl
import hashlib
import io
import json
import os
import resource
import signal
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from calling import few_rows, started
from conftest import Run
from PIL import Image
from zoo import encoded, png_header, tiles

import foclip
from foclip import files
from foclip.data.sources import Columns, Listing, archive, items
from foclip.detection import Detector
from foclip.detection.detector import shipped
from foclip.errors import SourceError, UsageError
from foclip.models import Encoder
from foclip.models.scores import CLIPScore
from foclip.runs import workers
from foclip.scanning import Folder, Settings, scan
from foclip.scanning.exporting import export
from foclip.scanning.mapper import Mapper, mapped
from foclip.scanning.output import Chunk, read, write
from foclip.scanning.scanner import ShardScan
from foclip.scanning.summary import kind, summarise

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")

CAPTION = "a photo of a {}."
#: Keys in their order, and what is to be said of each; None for a row that is scored.
Expected = list[tuple[str, str | None]]
#: As few processes as show that there are several.
TWO = Settings(workers=2)


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Twelve small picture files, all different."""
    return [encoded(tile, "PNG") for tile in tiles(12, 48)]


@pytest.fixture(scope="module")
def mapper(mini: Encoder) -> Mapper:
    return Mapper(CLIPScore(mini), shipped(mini), "rule")


def write_tar(path: Path, members: list[tuple[str, bytes | None]], mode: str = "w") -> Path:
    """A tar of members; those without content are links to /etc/passwd."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def samples(pictures: list[bytes]) -> list[tuple[str, bytes | None]]:
    """Members of a proper tar: pictures with captions."""
    return [
        member
        for number, content in enumerate(pictures)
        for member in ((f"{number:05d}.png", content), (f"{number:05d}.txt", CAPTION.format(number).encode()))
    ]


def write_table(path: Path, pictures: list[Any], group: int = 4, **columns: list[Any]) -> Path:
    """A Parquet table of pictures with captions."""
    given = {"image": pictures, "caption": [CAPTION.format(number) for number in range(len(pictures))]} | columns
    parquet.write_table(pa.table(given), path, row_group_size=group)
    return path


def rows_of(folder: Folder) -> pd.DataFrame:
    """All rows, in the order of the parts."""
    tables = [parquet.read_table(path) for path in sorted(folder.parts.glob("*.parquet"))]
    return pa.concat_tables(tables).to_pandas()


def digest(folder: Folder) -> dict[str, str]:
    """SHA-256 of every part."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.parts.iterdir())}


@pytest.mark.slow
def test_a_folder_tars_and_a_table_of_the_same_pictures_give_the_same_rows(
    mini: Encoder, pictures: list[bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    for number, content in enumerate(pictures[:6]):
        (folder / "below" / f"{number:05d}.png").write_bytes(content)
        (folder / "below" / f"{number:05d}.txt").write_text(CAPTION.format(number))
    (folder / ".hidden.png").write_bytes(pictures[0])
    (folder / "notes.md").write_text("no picture")
    (tmp_path / "tars").mkdir()
    write_tar(tmp_path / "tars" / "0.tar", samples(pictures)[:4])
    write_tar(tmp_path / "tars" / "1.tar.gz", samples(pictures[:6])[4:], "w:gz")
    write_table(tmp_path / "tars" / "0.parquet", [None] * 6)  # img2dataset's own table beside its tar
    write_table(tmp_path / "bytes.parquet", pictures[:6])
    write_table(tmp_path / "structs.parquet", [{"bytes": content, "path": None} for content in pictures[:6]])
    write_table(tmp_path / "paths.parquet", [f"folder/below/{number:05d}.png" for number in range(6)])
    found: dict[str, pd.DataFrame] = {}
    ways = {
        "folder": (1, 32),
        "tars": (2, 2),
        "bytes.parquet": (3, 3),
        "structs.parquet": (2, 5),
        "paths.parquet": (1, 4),
    }
    for name, (count, size) in ways.items():
        source = tmp_path / name
        out = tmp_path / f"out-{len(found)}"
        scanned = scan([source], out, model=mini, method="rule", settings=Settings(count, size))
        found[name] = rows_of(scanned)
    first = found["folder"]
    assert list(first.key) == [f"below/{number:05d}.png" for number in range(6)]
    assert list(found["tars"].key) == [f"{number:05d}" for number in range(6)]
    assert list(found["bytes.parquet"].key) == [str(number) for number in range(6)]
    assert list(first.source) == [str(folder / key) for key in first.key]
    assert list(first.caption) == [CAPTION.format(number) for number in range(6)]
    assert first.error.isna().all()
    assert list(first.sha256) == [hashlib.sha256(content).hexdigest() for content in pictures[:6]]
    assert {*zip(first.width, first.height, strict=True)} == {(48, 48)}
    for other in found.values():  # to the last bit, whatever the number of workers and the size of chunks
        pd.testing.assert_frame_equal(other.drop(columns=["key", "source"]), first.drop(columns=["key", "source"]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [None, 3])
def test_rows_are_what_detect_says(mini: Encoder, pictures: list[bytes], tmp_path: Path, seed: int | None) -> None:
    captions = [None, None, *map(CAPTION.format, range(10))]
    write_table(tmp_path / "a.parquet", pictures, caption=captions)
    rows = rows_of(scan([tmp_path / "a.parquet"], tmp_path / "out", model=mini, seed=seed, settings=TWO))
    opened = [Image.open(io.BytesIO(content)) for content in pictures]
    for caption, (_, row), picture in zip(captions, rows.iterrows(), opened, strict=True):
        (expected,) = foclip.detect(picture, [caption] if caption else None, model=mini, seed=seed)
        for name in ("score", "probe_score", "drop", "drift", "p_value"):
            value = getattr(expected, name)
            assert pd.isna(row[name]) if value is None else row[name] == pytest.approx(value, abs=1e-4), name
        for name in ("tampered", "verdict", "decided_by", "probe", "zero_shot_caption"):
            value = getattr(expected, name)
            assert pd.isna(row[name]) if value is None else row[name] == value, name
    assert "gray_score" not in rows  # the paper's rule alone has one
    assert rows.drift.notna().any()
    assert rows.zero_shot_caption.notna().sum() == 2
    with pytest.raises(UsageError, match="another seed"):
        scan([tmp_path / "a.parquet"], tmp_path / "out", model=mini, seed=4)
    with pytest.raises(UsageError, match="seed: the rule"):
        scan([tmp_path / "a.parquet"], tmp_path / "new", model=mini, method="rule", seed=4)


@pytest.mark.slow
def test_pictures_without_captions_are_judged_without(mini: Encoder, pictures: list[bytes], tmp_path: Path) -> None:
    captions = [None, "", "  ", *map(CAPTION.format, range(9))]
    write_table(tmp_path / "a.parquet", pictures, caption=captions)
    folder = scan([tmp_path / "a.parquet"], tmp_path / "out", model=mini, method="rule", settings=TWO)
    rows = rows_of(folder)
    assert list(rows.score.isna()) == [True] * 3 + [False] * 9
    assert set(rows.decided_by[:3]) == {"rule without prompts"}
    assert rows.error.isna().all()
    assert rows.tampered.notna().all()
    assert summarise(folder, 2.5).unscored == 3


def hostile_tar(path: Path, pictures: list[bytes]) -> Expected:
    """A tar with all that should not be in one; its keys in order, and what is to be said of each."""
    noise = encoded(Image.effect_noise((200, 200), 60), "JPEG")
    members: list[tuple[str, bytes | None]] = [
        *samples(pictures[:3]),
        ("cut.jpg", noise[:3000]),
        ("zero.jpg", b""),
        ("page.jpg", b"<!doctype html><html><body>404</body></html>"),
        ("bomb.png", png_header(100_000, 100_000)),
        ("../../escape.png", pictures[3]),
        ("/tmp/absolute.png", pictures[3]),
        ("link.png", None),
        ("00001.png", pictures[4]),
        ("00001.txt", b"another of that name"),
        ("twice.png", pictures[4]),
        ("twice.png", pictures[5]),
        ("alone.txt", b"a caption without a picture"),
        ("latin.png", pictures[4]),
        ("latin.txt", b"caf\xe9"),
        ("number.png", pictures[4]),
        ("number.json", b'{"caption": 7}'),
        ("deep.png", pictures[4]),
        ("deep.json", b"[" * 100_000),
        ("folder/pair.png", pictures[6]),
        ("folder/pair.webp", encoded(tiles(1, 48)[0], "WEBP")),
        ("._hidden.png", b"resource fork"),
        ("README", b"no sample"),
        ("last.png", pictures[7]),
    ]
    write_tar(path, members)
    return [
        ("00000", None),
        ("00001", None),
        ("00002", None),
        ("cut", "truncated"),
        ("zero", "not a picture"),
        ("page", "not a picture"),
        ("bomb", "megapixels"),
        ("../../escape", "out of the tar"),
        ("/tmp/absolute", "out of the tar"),
        ("link", "link"),
        ("00001#10", None),
        ("twice", None),
        ("twice#12", None),
        ("alone", "no picture in the sample"),
        ("latin", "UTF-8"),
        ("number", None),
        ("deep", "no JSON"),
        ("folder/pair", None),
        ("folder/pair.webp", None),
        ("last", None),
    ]


def check_rows(rows: pd.DataFrame, expected: Expected) -> None:
    """Every row once, scored or with its reason."""
    assert list(rows.key) == [key for key, _ in expected]
    for (_, row), (key, reason) in zip(rows.iterrows(), expected, strict=True):
        if reason is None:
            assert pd.isna(row.error), key
            assert row.drift >= 0
        else:
            assert reason in row.error
            assert pd.isna(row.tampered)
            assert np.isnan(row.drift)


def test_damage_in_tars(mini: Encoder, pictures: list[bytes], tmp_path: Path) -> None:
    expected = hostile_tar(tmp_path / "a.tar", pictures)
    folder = scan([tmp_path / "a.tar"], tmp_path / "out", model=mini, method="rule", settings=TWO)
    check_rows(rows_of(folder), expected)
    found = summarise(folder, 2.5)
    assert found.rows == len(expected)
    assert found.failed == sum(reason is not None for _, reason in expected)
    assert found.judged + found.failed == found.rows


@pytest.mark.parametrize("compressed", [False, True])
def test_a_tar_cut_anywhere_loses_no_row_in_silence(pictures: list[bytes], tmp_path: Path, compressed: bool) -> None:
    whole = write_tar(tmp_path / "a.tar", samples(pictures), "w:gz" if compressed else "w").read_bytes()
    before = [item.key for item in archive.items(io.BytesIO(whole), "a.tar", Columns())]
    assert before == [f"{number:05d}" for number in range(12)]
    end = len(whole.rstrip(b"\x00"))  # from there on there are marks of the end, and padding
    lengths = [*range(0, end, end // 150), *range(512, 6000, 512)]
    for length in lengths:
        found = list(archive.items(io.BytesIO(whole[:length]), "a.tar", Columns()))
        good = [item.key for item in found if item.error is None]
        assert good == before[: len(good)]
        assert found[-1].error, length
        assert len(found) <= len(good) + 2
    damaged = bytearray(whole)
    damaged[len(whole) // 2 : len(whole) // 2 + 512] = b"x" * 512
    assert any(item.error for item in archive.items(io.BytesIO(bytes(damaged)), "a.tar", Columns())) or not compressed


def test_a_header_overwritten_in_a_tar_is_told(pictures: list[bytes], tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", samples(pictures))
    content = bytearray(path.read_bytes())
    place = content.index(b"00005.png")
    content[place + 148 : place + 156] = b"\xff" * 8  # its checksum
    found = list(archive.items(io.BytesIO(bytes(content)), "a.tar", Columns()))
    assert [item.key for item in found] == [*(f"{number:05d}" for number in range(5)), "a.tar#end"]
    assert "after 00004" in str(found[-1].error)


@pytest.mark.slow
def test_damage_in_tables(mini: Encoder, pictures: list[bytes], tmp_path: Path) -> None:
    mixed: list[bytes | None] = [pictures[0], b"", pictures[1][:200], None, b"<html>", pictures[2]]
    write_table(
        tmp_path / "a.parquet",
        mixed,
        key=["a", "b", "c", "d", "e", "a"],
        error_message=[None, None, None, "HTTP Error 404", None, None],
    )
    write_table(tmp_path / "b.parquet", [1, 2])
    write_table(tmp_path / "c.parquet", pictures[:2], caption=[3, 4])
    outside = ["../a.png", "/etc/passwd", "https://example.org/a.png", "missing.png"]
    write_table(tmp_path / "d.parquet", outside)
    (tmp_path / "e.parquet").write_text("<html>no table</html>")
    folder = scan([tmp_path / "*.parquet"], tmp_path / "out", model=mini, method="rule", settings=TWO)
    expected: Expected = [
        ("a", None),
        ("b", "not a picture"),
        ("c", "truncated"),
        ("d", "no picture (HTTP Error 404)"),
        ("e", "not a picture"),
        ("a#5", None),
        ("0", "its picture is int"),
        ("1", "its picture is int"),
        ("0", None),
        ("1", None),
        ("0", "out of the table's folder"),
        ("1", "out of the table's folder"),
        ("2", "URL"),
        ("3", "no such file"),
        ("e.parquet", "cannot be read as Parquet"),
    ]
    check_rows(rows_of(folder), expected)


def test_a_table_damaged_inside_keeps_its_count(mini: Encoder, pictures: list[bytes], tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", pictures, group=6)
    place = parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[place : place + 64] = b"\xff" * 64
    path.write_bytes(content)
    rows = rows_of(scan([path], tmp_path / "out", model=mini, method="rule", settings=TWO))
    assert list(rows.key) == [str(number) for number in range(12)]
    assert rows.error[:6].isna().all()
    assert set(map(kind, rows.error[6:])) == {"the table is damaged here"}


@pytest.mark.slow
def test_a_picture_that_kills_its_process_is_one_row(
    mapper: Mapper, pictures: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly = Image.open(io.BytesIO(pictures[5])).tobytes()
    preprocess, parent = mapper._preprocess, os.getpid()

    def deadly_preprocess(picture: Image.Image) -> Any:
        if picture.tobytes() == deadly and os.getpid() != parent:
            os._exit(11)
        return preprocess(picture)

    monkeypatch.setattr(mapper, "_preprocess", deadly_preprocess)
    write_table(tmp_path / "a.parquet", pictures, group=12)
    chunks = read(Listing([str(tmp_path / "a.parquet")]), Columns(), 3)
    rows = [row for _, some in mapped(chunks, mapper, workers=2) for row in some]
    assert [row["key"] for row in rows] == [str(number) for number in range(12)]
    assert [place for place, row in enumerate(rows) if row["error"]] == [5]
    assert "process that decoded it died" in rows[5]["error"]


@pytest.mark.slow
def test_every_caption_is_embedded_once(
    mini: Encoder, pictures: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = CLIPScore(mini)
    asked: list[str] = []
    encode_prompts = scorer.encode_prompts

    def noted(prompts: Sequence[str]) -> Any:
        asked.extend(prompts)
        return encode_prompts(prompts)

    monkeypatch.setattr(scorer, "encode_prompts", noted)
    mapper = Mapper(scorer, shipped(mini), "rule")
    write_table(tmp_path / "a.parquet", pictures, caption=["a dog", "a cat"] * 6)
    for chunk in read(Listing([str(tmp_path / "a.parquet")]), Columns(), 3):
        mapper(chunk)
    assert sorted(filter(None, asked)) == ["a cat", "a dog"]


@pytest.mark.slow
def test_what_passes_is_kept(mini: Encoder, pictures: list[bytes], tmp_path: Path) -> None:
    uids = [hashlib.md5(content).hexdigest() for content in pictures]
    write_table(tmp_path / "a.parquet", [*pictures[:11], b"no picture"], uid=uids, group=5)
    folder = scan([tmp_path / "a.parquet"], tmp_path / "out", model=mini, method="rule", settings=TWO)
    rows = rows_of(folder)
    passed = rows[rows.error.isna() & (rows.tampered != True)]  # noqa: E712 (None passes)
    assert 5 < len(passed) < 12
    for name in ("a.npy", "a.txt", "a.parquet"):
        assert export(folder, tmp_path / name) == len(passed)
    kept = np.load(tmp_path / "a.npy")
    assert kept.dtype == np.dtype("u8,u8")  # what DataComp's resharder takes
    assert [f"{high:016x}{low:016x}" for high, low in kept.tolist()] == sorted(passed.uid)
    assert (tmp_path / "a.txt").read_text().split() == list(passed.key)
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "a.parquet"), passed.reset_index(drop=True), check_dtype=False
    )
    assert export(folder, tmp_path / "d.txt", only_clean=True) == (passed.verdict == "clean").sum()
    middle = float(passed.score.median())
    assert export(folder, tmp_path / "b.txt", middle) == (passed.score >= middle).sum()
    with pytest.raises(UsageError, match="min_score: nan"):
        export(folder, tmp_path / "e.txt", float("nan"))
    write_table(tmp_path / "c.parquet", pictures)
    other = scan([tmp_path / "c.parquet"], tmp_path / "other", model=mini, method="rule", settings=TWO)
    with pytest.raises(UsageError, match=r"no uid .* give c\.txt for keys .* the scan is done"):
        export(other, tmp_path / "c.npy")
    assert not (tmp_path / "c.npy").exists()
    assert export(other, tmp_path / "c.txt") > 0


@pytest.mark.slow
def test_another_model_detector_or_source_is_refused(
    mini: Encoder, pictures: list[bytes], tmp_path: Path, run: Run
) -> None:
    path = write_table(tmp_path / "a.parquet", pictures[:4])
    out = tmp_path / "out"
    before = digest(scan([path], out, model=mini, method="rule", settings=TWO))
    calls: dict[str, Callable[[], object]] = {
        "method": lambda: scan([path], out, model=mini),
        "bound on false alarms": lambda: scan([path], out, model=mini, method="rule", fpr=0.05),
        "caption": lambda: scan([path], out, model=mini, method="rule", columns=Columns(caption="caption")),
        "source": lambda: scan([path, path], out, model=mini, method="rule"),
    }
    for changed, call in calls.items():
        with pytest.raises(UsageError, match=f"another {changed}") as caught:
            call()
        assert "\n" not in str(caught.value)
    manifest = out / "manifest.json"
    said = manifest.read_text()
    for changed in ("model", "weights and preprocessing", "precision", "version"):
        now = json.loads(said)["judge"][changed]
        manifest.write_text(said.replace(f'"{changed}": "{now}"', f'"{changed}": "before"'))
        with pytest.raises(UsageError, match=rf"another {changed} \(before then, {now} now\)"):
            scan([path], out, model=mini, method="rule")
    manifest.write_text(said)
    other = Detector.load(Path(shipped.__code__.co_filename).parent / "shipped" / "mini.json")
    object.__setattr__(other, "fpr", 0.03)
    with pytest.raises(UsageError, match="another detector"):
        scan([path], out, model=mini, method="rule", detector=other)
    write_table(path, pictures[4:8])
    code, _, err = run("scan", path, "--out", out, "--method", "rule")
    assert code == 2
    assert "holds a scan with another source" in err
    assert digest(Folder(out)) == before


def test_errors_are_tried_again(mini: Encoder, pictures: list[bytes], tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, content in enumerate(pictures[:6]):
        (folder / f"{number}.png").write_bytes(b"" if number in (2, 4) else content)
    out = scan([folder], tmp_path / "out", model=mini, method="rule", settings=TWO)
    before = rows_of(out)
    assert list(before.key[before.error.notna()]) == ["2.png", "4.png"]
    (folder / "2.png").write_bytes(pictures[2])
    (folder / "0.png").write_bytes(b"broken since")
    scan([folder], tmp_path / "out", model=mini, method="rule", settings=Settings(2, retry_errors=True))
    after = rows_of(out)
    assert list(after.key[after.error.notna()]) == ["4.png"]
    others = after.key != "2.png"
    pd.testing.assert_frame_equal(after[others], before[others])
    with pytest.raises(UsageError, match="no scan"):
        scan([folder], tmp_path / "new", model=mini, method="rule", settings=Settings(retry_errors=True))


@pytest.mark.slow
def test_a_source_that_disappears_leaves_finished_parts(mini: Encoder, pictures: list[bytes], tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", samples(pictures[number * 4 : number * 4 + 4]))
    whole = digest(scan([tmp_path / "*.tar"], tmp_path / "whole", model=mini, method="rule", settings=TWO))
    out = Folder(tmp_path / "out")

    def progress(text: str, total: int) -> Any:
        (tmp_path / "1.tar").rename(tmp_path / "gone")  # listed, and not read yet
        return lambda done, note="": None

    with pytest.raises(SourceError, match=r"1\.tar: No such file"):
        scan([tmp_path / "*.tar"], out.out, model=mini, method="rule", settings=TWO, progress=progress)
    (tmp_path / "gone").rename(tmp_path / "1.tar")
    assert digest(scan([tmp_path / "*.tar"], out.out, model=mini, method="rule", settings=TWO)) == whole


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_finished_parts_stay(
    run: Run, mini: Encoder, pictures: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_table(tmp_path / "a.parquet", pictures)
    whole = digest(scan([path], tmp_path / "whole", model=mini, method="rule", settings=TWO))
    out = tmp_path / "out"
    replacing, limits = files.replacing, resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_a_full_disk(path: Path, sync: bool = False) -> Any:
        if path.name == "00000001.parquet":  # a file may have no more bytes from here on, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        return replacing(path, sync)

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(files, "replacing", on_a_full_disk)
            code, _, err = run("scan", path, "--out", out, "--method", "rule", "--workers", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert code == 1
    (line,) = err.splitlines()
    assert "00000001.parquet: cannot be written (File too large)" in line
    assert digest(Folder(out)) == {"00000000.parquet": whole["00000000.parquet"]}
    assert digest(scan([path], out, model=mini, method="rule", settings=TWO)) == whole


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_ends_with_the_same_bytes(
    mini: Encoder, pictures: list[bytes], tmp_path: Path
) -> None:
    write_table(tmp_path / "a.parquet", pictures * 6, group=6)
    whole = digest(scan([tmp_path / "a.parquet"], tmp_path / "whole", model=mini, method="rule", settings=TWO))
    out = Folder(tmp_path / "out")
    call = ("scan", tmp_path / "a.parquet", "--out", out.out, "--method", "rule", "--workers", 2)
    process = started(*call, prepare=few_rows)
    while len(list(out.parts.glob("0*.parquet"))) < 3 and process.is_alive():
        time.sleep(0.02)
    process.kill()
    process.join()
    done = digest(out)
    assert 3 <= len(done) < len(whole)
    time.sleep(5 * workers.NOTICE)  # its workers see that it is gone
    assert digest(scan([tmp_path / "a.parquet"], out.out, model=mini, method="rule", settings=TWO)) == whole


@pytest.mark.slow
def test_it_goes_on_where_the_same_data_are_found_under_another_name(
    mini: Encoder, pictures: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "before").mkdir()
    for number in range(2):
        write_tar(tmp_path / "before" / f"{number}.tar", samples(pictures[number : number + 1]))
    out = scan([tmp_path / "before" / "*.tar"], tmp_path / "out", model=mini, method="rule", settings=TWO)
    out.part(1).unlink()
    moved = (tmp_path / "before").rename(tmp_path / "after")
    scan([moved / "0.tar", moved / "1.tar"], out.out, model=mini, method="rule", settings=TWO)  # as a shell expands it
    assert rows_of(out).error.isna().all()
    with pytest.raises(UsageError, match="another source"):
        scan([moved / "0.tar"], out.out, model=mini, method="rule", settings=TWO)
    assert len([*out.shards()]) == 2


@pytest.mark.slow
def test_captions_are_read_in_one_way_by_scan_and_score(
    mini: Encoder, pictures: list[bytes], tmp_path: Path, run: Run
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.png").write_bytes(pictures[0])
    (source / "b.png").write_bytes(pictures[1])
    (source / "a.txt").write_text("a photo of a cat.\nblue sky\n")
    (source / "notes.md").write_text("no picture")
    code, text, err = run("scan", "--dry-run", source)
    assert code == 0
    assert "1 of 2 sample rows have a caption" in text
    assert run("scan", source)[0] == 2  # without --out
    code, text, err = run("scan", source, "--out", source / "out", "--method", "rule", "--workers", 1)
    assert code == 0
    assert "without caption" in text
    assert "passed over: 1 *.md" in err
    a, b = rows_of(Folder(source / "out")).score
    assert np.isnan(b)
    (expected, *_) = foclip.score([source / "a.png"], captions="sidecar", model=mini)
    assert a == pytest.approx(expected.score, abs=1e-6)
    assert run("scan", source, "--out", source / "out", "--method", "rule", "--workers", 1)[0] == 0  # out is no source


@pytest.mark.slow
def test_the_command_line(run: Run, pictures: list[bytes], tmp_path: Path) -> None:
    expected = hostile_tar(tmp_path / "a.tar", pictures)
    out = tmp_path / "out"
    options = ("--method", "rule", "--workers", 2, "--keep", tmp_path / "kept.txt", "--min-score", 0)
    code, text, err = run("scan", tmp_path / "a.tar", "--out", out, *options, "--json")
    assert code == 1
    summary = pd.read_json(io.StringIO(text), typ="series")
    assert summary.rows == len(expected)
    assert summary["failed"] == sum(summary.errors.values()) == 10
    assert summary.kept == len((tmp_path / "kept.txt").read_text().splitlines())
    assert len(err.splitlines()) == len(summary.errors)
    page = (out / "report.html").read_text()
    assert "out of the tar" in page
    assert "<script" not in page
    code, text, err = run("scan", tmp_path / "a.tar", "--out", out, *options)  # nothing is left to be done
    assert code == 1
    for wrong, said in (
        ((tmp_path / "nothing",), "no such file or folder"),
        ((tmp_path / "*.nothing",), "no such file or folder"),
        ((tmp_path / "kept.txt",), "neither a picture"),
        (("nosuch://bucket/a.tar",), "nosuch"),
        ((tmp_path / "a.tar", "--keep", tmp_path / "a.csv"), "ends in .npy"),
        ((tmp_path / "a.tar", "--min-score", 1), "--keep"),
        ((tmp_path / "a.tar", "--address", "auto"), "--engine ray"),
    ):
        code, _, err = run("scan", *wrong, "--out", tmp_path / "wrong")
        assert code == 2
        assert said in err
        assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_columns_may_be_named(run: Run, pictures: list[bytes], tmp_path: Path) -> None:
    table = pa.table({"photo": pictures[:2], "words": ["a dog", "a cat"], "name": ["x", "y"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    code, _, err = run("scan", tmp_path / "a.parquet", "--out", tmp_path / "out")
    assert code == 2
    assert "--image: none of the columns" in err
    named = ("--image", "photo", "--caption", "words", "--key", "name")
    code, _, _ = run("scan", tmp_path / "a.parquet", "--out", tmp_path / "out", *named, "--workers", 1)
    assert code == 0
    rows = rows_of(Folder(tmp_path / "out"))
    assert list(rows.key) == ["x", "y"]
    assert list(rows.caption) == ["a dog", "a cat"]
    code, _, err = run("scan", tmp_path / "a.parquet", "--out", tmp_path / "other", "--image", "no")
    assert code == 2
    assert "--image" in err


def test_kinds_of_errors_have_no_numbers_in_them() -> None:
    assert kind("100000×100000 is more than 100 megapixels") == "N×N is more than N megapixels"
    assert kind("tar cut off or damaged after 00004 (bad checksum)") == "tar cut off or damaged"


def test_counting_reads_no_picture(pictures: list[bytes], tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", samples(pictures))
    (shard,) = Listing([str(tmp_path / "a.tar")])
    assert [item.key for item in items(shard, Columns(), read=False)] == [f"{n:05d}" for n in range(12)]


def test_a_link_of_a_folder_to_itself_ends(mini: Encoder, pictures: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(pictures[0])
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    found = list(Listing([str(tmp_path)]))
    assert [shard.names for shard in found] == [("a.png", "dangling.png")]
    rows = rows_of(scan([tmp_path], tmp_path / ".out", model=mini, method="rule", settings=TWO))
    assert list(rows.error.isna()) == [True, False]


@pytest.mark.slow
def test_rays_actor_writes_the_same_bytes(mini: Encoder, pictures: list[bytes], tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", pictures[:8])
    whole = scan([path], tmp_path / "whole", model=mini, method="rule", settings=TWO)
    before = digest(whole)
    whole.part(1).unlink()
    judge = shipped(mini), "rule", None, None
    given = whole.out, ("mini", "clipscore"), 2.5, CLIPScore(mini).fingerprint, judge, Columns(), 3
    actor = ShardScan(*given)
    assert list(map(actor, whole.shards())) == [0, 4]
    assert digest(whole) == before
    with pytest.raises(UsageError, match="other weights"):
        replace(actor, fingerprint="x").mapper  # noqa: B018


def test_the_most_suspicious_come_first(mini: Encoder, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    listing = Listing([str(write_table(tmp_path / "a.parquet", [b""] * 5, group=5))])
    folder.begin(listing, lambda count: {})
    (shard,) = listing
    said = [(0.02, 0.5, 0.1), (0.001, None, 0.2), (0.001, 0.3, 0.1), (0.001, None, 0.4), (0.01, None, None)]
    rows = [
        {"key": str(place), "score": drop and 1.0, "p_value": p, "drop": drop, "drift": drift}
        | {"tampered": True, "verdict": "tampered", "decided_by": "combined", "probe": "blur" if drift else None}
        for place, (p, drop, drift) in enumerate(said)
    ]
    write(folder, [(Chunk(shard, [], 1.0), rows)], Mapper(CLIPScore(mini), shipped(mini)).schema)
    found = summarise(folder, 2.5)
    assert [example.row["key"] for example in found.worst] == ["3", "2", "1", "4", "0"]
    assert found.probes == {"blur": 4}


@pytest.mark.slow
def test_uids_are_missed_before_the_scan(run: Run, pictures: list[bytes], tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", samples(pictures))
    out, kept = tmp_path / "out", tmp_path / "kept.npy"
    code, _, err = run("scan", tmp_path / "*.tar", "--out", out, "--keep", kept)
    assert code == 2
    assert "00000 has no uid of 32 hexadecimal digits" in err
    assert "kept.txt" in err
    assert not (out / "manifest.json").exists()
    uids = [hashlib.md5(content).hexdigest() for content in pictures[:9]]
    write_table(tmp_path / "b.parquet", pictures, uid=[*uids, None, None, None])  # the first rows have one
    asked = ("scan", tmp_path / "b.parquet", "--out", out, "--method", "rule", "--workers", 2, "--keep")
    code, _, err = run(*asked, kept)
    assert code == 2
    assert "the scan is done" in err
    assert json.loads((out / "summary.json").read_text())["rows"] == 12
    assert (out / "report.html").exists()
    before = digest(Folder(out))
    assert run(*asked, tmp_path / "kept.txt")[0] == 0
    assert digest(Folder(out)) == before


@pytest.mark.parametrize(("name", "unscored"), [("toy", 1), ("toy-taste", 0)])
def test_scores_of_other_packages_are_scanned_without_a_detector(
    toys: None, run: Run, pictures: list[bytes], tmp_path: Path, name: str, unscored: int
) -> None:
    path = write_table(tmp_path / "a.parquet", pictures, caption=[*map(CAPTION.format, range(11)), None])
    arguments = ("scan", path, "--score", name, "--out", tmp_path / "out", "--workers", 2)
    code, text, err = run(*arguments, "--keep", tmp_path / "kept.txt", "--min-score", 0.1, "--json")
    assert code == 0, err
    assert len(err.splitlines()) == 1
    assert f"scores only, no verdicts: score: {name} has no embedding" in err
    rows, found = rows_of(Folder(tmp_path / "out")), json.loads(text)
    assert rows[["verdict", "tampered", "p_value", "probe", "decided_by"]].isna().all(axis=None)
    assert rows.score.isna().sum() == found["without_caption"] == unscored
    assert (found["rows"], found["judged"], found["kept"]) == (12, 0, (rows.score >= 0.1).sum())
    assert "scores only" in (tmp_path / "out" / "report.html").read_text()
    scored = rows[rows.score.notna()]
    opened = [Image.open(io.BytesIO(pictures[place])) for place in scored.index]
    expected = foclip.score(opened, None if name == "toy-taste" else [[c] for c in scored.caption], score=name)
    assert list(scored.score) == pytest.approx([each.score for each in expected], abs=1e-6)
    code, _, err = run(*arguments, "--fpr", 0.05)
    assert code == 2
    assert "none for" in err


@pytest.mark.slow
def test_a_file_system_of_a_cluster(
    pictures: list[bytes], mapper: Mapper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No locks, no folders that sync, no renaming to names that are taken, and files that are shown late."""

    def refused(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    replace_file, is_file, asked = Path.replace, files.is_file, set[Path]()

    def replaced(self: Path, target: Path) -> Path:
        if Path(target).exists():
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return replace_file(self, target)

    def late(path: Path) -> bool:
        seen = path in asked or path.parent.name != "parts"
        asked.add(path)
        return seen and is_file(path)

    monkeypatch.setattr(fcntl, "flock", refused)
    monkeypatch.setattr(os, "fsync", refused)
    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(files, "is_file", late)
    source = tmp_path / "source"
    source.mkdir()
    for number, content in enumerate(pictures[:3]):
        (source / f"{number}.png").write_bytes(content)
    for _ in range(2):  # the second time, all that is written anew is there already
        folder = scan([str(source)], tmp_path / "out", model=mapper.scorer, settings=Settings(workers=1))
        assert [row["error"] for _, _, batch in folder.rows() for row in batch.to_pylist()] == [None] * 3
    assert not list((tmp_path / "out").rglob("*.aside"))
