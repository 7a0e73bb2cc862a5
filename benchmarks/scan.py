"""What `foclip scan` costs, and what becomes of it when it is killed.

    python -m benchmarks.scan speed SOURCE [--pictures 1024] [--rounds 3] [--ray]
    python -m benchmarks.scan killed SOURCE [--kills 10]
    python -m benchmarks.scan damaged SOURCE
    python -m benchmarks.scan memory SOURCE [--times 10]

SOURCE is a Parquet table with the columns key, image and caption. `speed` compares a scan of as many processes as
cores with bare decoding and with bare forward passes in as many, and with the loop that one writes by hand around a
metric, in turns; it prints medians over rounds. Scans are `--by rule`: two passes through the image tower a picture.
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as parquet
import torch

from foclip import images
from foclip.encoders import Encoder, load
from foclip.engines import SPARE, cores
from foclip.scan import Settings, local, scan
from foclip.scan.parts import Folder
from foclip.scan.summary import summarise

#: Pictures in a pass, and in a row group.
ROWS, GROUP = 32, 128
#: Pictures of a tar, as `data` writes them.
SHARD = 1000
MODEL = "mini"

_encoder: Encoder


def _decode(contents: list[bytes]) -> int:
    return len([_encoder.resize(images.decode(content, "")) for content in contents])


def _forward(count: int) -> None:
    _encoder.encode_resized(torch.zeros(count, 3, *_encoder.image_size, dtype=torch.uint8), ROWS)


def _one_thread() -> None:
    torch.set_num_threads(1)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def by_hand(contents: list[bytes], captions: list[str], threads: int) -> None:
    """Score of every picture and of it in gray, batch by batch, as metrics do it: captions are embedded each time."""
    torch.set_num_threads(threads)
    for first in range(0, len(contents), ROWS):
        pictures = [images.decode(content, "") for content in contents[first : first + ROWS]]
        for looked_at in (pictures, [images.to_gray(picture) for picture in pictures]):
            texts = _encoder.encode_texts(captions[first : first + ROWS])
            (_encoder.encode_pictures(looked_at) * texts).sum(dim=-1)
    torch.set_num_threads(1)


def speed(source: Path, count: int, rounds: int, ray: bool, work: Path) -> None:
    """Pictures per second of everything, in turns."""
    global _encoder
    processes = cores()
    torch.set_num_threads(1)
    _encoder = load(MODEL, "cpu")
    table = parquet.read_table(source).slice(0, count)
    parquet.write_table(table, work / "some.parquet", row_group_size=GROUP)
    contents, captions = table["image"].to_pylist(), table["caption"].to_pylist()
    pieces = [contents[first : first + ROWS] for first in range(0, count, ROWS)]
    taken: dict[str, list[float]] = {}

    def scanned(engine: str) -> None:
        shutil.rmtree(work / "out", ignore_errors=True)
        settings = Settings(workers=processes)
        scan([work / "some.parquet"], work / "out", model=_encoder, by="rule", engine=engine, settings=settings)

    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), _one_thread) as pool:
        list(pool.map(_forward, [1] * 4 * processes))
        ways: dict[str, Callable[[], object]] = {
            "bare decoding": lambda: list(pool.map(_decode, pieces)),
            "bare forward passes, two a picture": lambda: list(
                pool.map(_forward, [2 * len(piece) for piece in pieces])
            ),
            "scan": lambda: scanned("local"),
            "loop by hand, one thread": lambda: by_hand(contents, captions, 1),
            f"loop by hand, {processes} threads": lambda: by_hand(contents, captions, processes),
        }
        if ray:
            import ray as started

            started.init("local", num_cpus=processes + SPARE, log_to_driver=False)  # its start is not counted
            ways["scan, Ray"] = lambda: scanned("ray")
        for _ in range(rounds):
            for name, way in ways.items():
                taken.setdefault(name, []).append(seconds(way))
    rates = {name: count / statistics.median(times) for name, times in taken.items()}
    print(f"{MODEL}, {count} pictures, {processes} cores, medians of {rounds} rounds\n")
    for name, rate in rates.items():
        print(f"{name:40s} {rate:8.1f} pictures/s")
    bare = min(rate for name, rate in rates.items() if name.startswith("bare"))
    hand = max(rate for name, rate in rates.items() if name.startswith("loop"))

    def ratio(name: str, other: str) -> float:
        pairs = zip(taken[other], taken[name], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    slower = next(name for name, rate in rates.items() if rate == bare)
    faster = next(name for name, rate in rates.items() if rate == hand)
    print(f"\nscan against the slower of the bare ones: {ratio('scan', slower):.2f}")
    print(f"scan against the faster loop by hand: {ratio('scan', faster):.2f}")
    if ray:
        print(f"scan against Ray on one machine: {ratio('scan', 'scan, Ray'):.2f}")


def data(pictures: Path, out: Path) -> None:
    """Real data sets as people have them, from Tiny-ImageNet's 10,000 validation pictures and 700 photos.

    Writes `val.parquet` (columns key, image, caption), `tars` (ten of the same), `photos` (a folder, a caption beside
    each) and `odd` (a folder of every other picture of the 10,000, which no detector was calibrated on).

    Args:
        pictures: A folder with `tiny-imagenet` (val.parquet with the columns image and label, classes.json) and
            `imagenet-photos` (index.json with the file and name of each).
        out: Folder to write to.
    """
    table = parquet.read_table(pictures / "tiny-imagenet" / "val.parquet")
    classes = json.loads((pictures / "tiny-imagenet" / "classes.json").read_text())
    names = {each["label"]: each["names"][0] for each in classes}
    captions = [f"a photo of a {names[label]}" for label in table["label"].to_pylist()]
    contents, keys = table["image"].to_pylist(), [f"{place:05d}" for place in range(len(table))]
    for folder in ("tars", "photos", "odd"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    written = pa.table({"key": keys, "image": contents, "caption": captions})
    parquet.write_table(written, out / "val.parquet", row_group_size=GROUP)
    for first in range(0, len(contents), SHARD):
        with tarfile.open(out / "tars" / f"{first // SHARD}.tar", "w") as tar:
            for place in range(first, min(first + SHARD, len(contents))):
                _add(tar, place, contents[place], captions[place], None, b"")
    for place in range(1, len(contents), 2):
        (out / "odd" / f"{place:05d}.webp").write_bytes(contents[place])
        (out / "odd" / f"{place:05d}.txt").write_text(captions[place])
    for each in json.loads((pictures / "imagenet-photos" / "index.json").read_text()):
        path = out / "photos" / each["file"]
        path.write_bytes((pictures / "imagenet-photos" / each["file"]).read_bytes())
        path.with_suffix(".txt").write_text(f"a photo of a {each['name']}")
    for name in ("val.parquet", "tars", "photos", "odd"):
        print(out / name)


def command(source: Path, out: Path, *options: str) -> list[str]:
    """The command line of a scan."""
    return [sys.executable, "-m", "foclip", "scan", str(source), "--out", str(out), "--by", "rule", *options]


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of every part."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (out / "parts").glob("0*.parquet")}


def killed(source: Path, kills: int, work: Path) -> None:
    """SIGKILL at random moments, resumed each time; then the parts against those of a run that nobody disturbed."""
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    begun = time.perf_counter()
    subprocess.run(command(source, work / "whole"), check=True, **quiet)
    whole = time.perf_counter() - begun
    draws, stopped = random.Random(0), 0
    for _ in range(kills):
        process = subprocess.Popen(command(source, work / "out"), **quiet)
        try:
            process.wait(draws.uniform(0.03, 0.25) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            stopped += 1
        process.wait()
        time.sleep(5 * local.NOTICE)
        print(f"{len(digests(work / 'out')) if (work / 'out' / 'parts').exists() else 0} parts", flush=True)
    last = subprocess.run(command(source, work / "out"), **quiet)
    print(f"killed {stopped} of {kills} times; exit code at last {last.returncode}")
    expected = digests(work / "whole")
    print(f"parts equal byte for byte: {digests(work / 'out') == expected} ({len(expected)})")


def damaged(source: Path, work: Path) -> None:
    """5 % of the pictures damaged in seven ways, as a table and as tars, one of them cut in the middle."""
    table = parquet.read_table(source)
    contents, captions = table["image"].to_pylist(), table["caption"].to_pylist()
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x01\x86\xa0\x00\x01\x86\xa0\x08\x02\x00\x00\x00"
    ways = ("truncated", "zero bytes", "HTML", "bomb header", "path traversal", "link", "duplicate key")
    chosen = {place: ways[number % len(ways)] for number, place in enumerate(range(7, len(contents), 20))}
    (work / "tars").mkdir()
    files = 10
    size = -(-len(contents) // files)
    for number in range(files):
        with tarfile.open(work / "tars" / f"{number}.tar", "w") as tar:
            for place in range(number * size, min(number * size + size, len(contents))):
                _add(tar, place, contents[place], captions[place], chosen.get(place), header)
    last = (work / "tars" / f"{files - 1}.tar").read_bytes()
    (work / "tars" / f"{files - 1}.tar").write_bytes(last[: len(last) // 2 + 700])
    done = subprocess.run(command(work / "tars", work / "out"), capture_output=True, text=True)
    print(done.stdout, done.stderr, f"exit code {done.returncode}", sep="\n")
    rows = pa.concat_tables(
        [parquet.read_table(path) for path in sorted((work / "out" / "parts").iterdir())]
    ).to_pylist()
    whole = [row for row in rows if "9.tar" not in row["source"]]
    wrong = [row for place, row in enumerate(whole) if (row["error"] is None) == (place in chosen)]
    print(f"rows of the nine whole tars: {len(whole)} of {(files - 1) * size}")
    print(f"damaged and scored, or sound and not: {len(wrong)}")
    print(f"rows of the tar that is cut: {len(rows) - len(whole)}; its last: {rows[-1]['key']}: {rows[-1]['error']}")


def _add(tar: tarfile.TarFile, place: int, content: bytes, caption: str, way: str | None, header: bytes) -> None:
    replaced = {"truncated": content[: len(content) // 2], "zero bytes": b"", "HTML": b"<html>", "bomb header": header}
    key = f"{place:05d}" if way != "duplicate key" else f"{place - 1:05d}"
    key = f"../{key}" if way == "path traversal" else key
    for suffix, held in ((".webp", replaced.get(str(way), content)), (".txt", caption.encode())):
        member = tarfile.TarInfo(key + suffix)
        if way == "link" and suffix == ".webp":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
        else:
            member.size = len(held)
            tar.addfile(member, io.BytesIO(held))


def memory(source: Path, times: int, work: Path) -> None:
    """Peak resident memory of a scan and its processes, of the source and of it several times under other keys."""
    table = parquet.read_table(source)
    peaks = []
    for count in (1, times):
        path = work / f"{count}.parquet"
        with parquet.ParquetWriter(path, table.schema) as writer:
            for number in range(count):
                keys = pa.array([f"{number}-{place}" for place in range(len(table))])
                writer.write_table(table.set_column(table.schema.get_field_index("key"), "key", keys), len(table))
        process = subprocess.Popen(command(path, work / f"out-{count}"), stdout=subprocess.DEVNULL)
        peaks.append(_peak(process))
        print(
            f"{count * len(table)} pictures: {peaks[-1] / 2**20:.0f} MiB (exit code {process.returncode})", flush=True
        )
        assert summarise(Folder(work / f"out-{count}"), 2.5).rows == count * len(table)
    print(f"ratio {peaks[1] / peaks[0]:.3f}")


def _peak(process: "subprocess.Popen[bytes]") -> int:
    """Most memory that a process and its children have together (proportional set size: shared pages count once)."""
    peak = 0
    while process.poll() is None:
        held = 0
        try:
            root = psutil.Process(process.pid)
            for each in (root, *root.children(recursive=True)):
                held += each.memory_full_info().pss
        except psutil.Error:
            pass
        peak = max(peak, held)
        time.sleep(0.5)
    return peak


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("data", "speed", "killed", "damaged", "memory"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, help="of data")
    parser.add_argument("--pictures", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--times", type=int, default=10)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if asked.what == "data":
            data(asked.source, asked.out)
        elif asked.what == "speed":
            speed(asked.source, asked.pictures, asked.rounds, asked.ray, work)
        elif asked.what == "killed":
            killed(asked.source, asked.kills, work)
        elif asked.what == "damaged":
            damaged(asked.source, work)
        else:
            memory(asked.source, asked.times, work)


if __name__ == "__main__":
    main()
