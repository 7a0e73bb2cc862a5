"""What `foclip scan` costs, and what becomes of it when it is killed or fed with damage.

    python -m benchmarks.scan data PICTURES --out DATA              # what the others scan (benchmarks/scan_data.py)
    python -m benchmarks.scan speed DATA/val.parquet [--pictures 1024] [--rounds 3] [--ray]
    python -m benchmarks.scan command DATA/tars/0.tar DATA/tars/1.tar [--rounds 3]
    python -m benchmarks.scan memory DATA/val.parquet [--times 10]
    python -m benchmarks.scan equal SOURCE… [--method rule]             # engines, workers, sizes of chunks; same keys
    python -m benchmarks.scan killed SOURCE [--kills 10]            # SIGKILL
    python -m benchmarks.scan node SOURCE [--kills 3]               # nodes of a Ray cluster
    python -m benchmarks.scan damaged DATA/val.parquet
    python -m benchmarks.scan full SOURCE                           # a full disk; takes root
    python -m benchmarks.scan gone DATA/tars                        # a folder that disappears

`speed` compares a scan of as many processes as cores with bare decoding and bare forward passes in as many, of the
tower as open_clip loads it and of the same with its batch norms folded, and with the loop that one writes by hand
around open_clip's model and a metric, in turns; it prints medians over rounds. Scans are `--method rule`, two passes a
picture; those of `equal` where it is told so. `command` runs `foclip scan SOURCE… --out DIR` as a user does and counts
everything: start, imports, model, detector, report. What a benchmark prints, or the figures of `speed`, is kept in
docs/figures/scan-WHAT.json.
"""

import argparse
import copy
import io
import json
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as parquet
import torch

from benchmarks import record, scan_data, scan_faults
from benchmarks.timing import Spread
from foclip.data import images
from foclip.machine import cores
from foclip.models import OpenClipEncoder, load_encoder
from foclip.models.batching import embeddings
from foclip.models.scores import CLIPScore
from foclip.models.scores.clip import SCALE
from foclip.runs.workers import SPARE
from foclip.scanning import Folder, Settings, scan
from foclip.scanning.summary import summarise

#: Pictures in a pass.
ROWS = 32
MODEL = "mini"

_encoder: OpenClipEncoder
#: Its model as open_clip loads it.
_loaded: Any


def _decode(contents: list[bytes]) -> int:
    return len([_encoder.preprocess.image(images.decode(content, "")) for content in contents])


def _forward(count: int) -> None:
    inputs = torch.zeros(ROWS, 3, *_encoder.image_size)
    with torch.inference_mode():
        for _ in range(0, count, ROWS):
            _loaded.encode_image(inputs)


def _forward_folded(count: int) -> None:
    embeddings(CLIPScore(_encoder), torch.zeros(count, 3, *_encoder.image_size, dtype=torch.uint8), ROWS)


def _one_thread() -> None:
    torch.set_num_threads(1)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """How long it takes on the wall, and on all cores together, which neighbours on the machine hardly turn."""
    begun, before = time.perf_counter(), _spent()
    work()
    wall, after = time.perf_counter() - begun, _spent()
    return wall, sum(spent - before.get(process, 0) for process, spent in after.items())


def _spent() -> dict[tuple[int, float], float]:
    """Seconds of the processor that this process and its descendants have had, each with its ended children.

    Not one sum, since a process that ends takes its seconds with it if its parent does not wait for it, as Ray's do.
    Those of an actor that ends before the second look would be missing; Ray ends its actors a little later. A process
    that was there at the first look and is waited for before the second would count twice; here there is none.
    """
    root, spent = psutil.Process(), {}
    for each in (root, *root.children(recursive=True)):
        with suppress(psutil.Error):
            spent[each.pid, each.create_time()] = sum(each.cpu_times()[:4])  # in user mode and in the system
    return spent


def by_hand(contents: list[bytes], captions: list[str], threads: int) -> None:
    """Score of every picture and of it in gray, batch by batch, as metrics do it: captions are embedded each time."""
    torch.set_num_threads(threads)
    for first in range(0, len(contents), ROWS):
        pictures = [images.decode(content, "") for content in contents[first : first + ROWS]]
        for versions in (pictures, [images.to_gray(picture) for picture in pictures]):
            with torch.inference_mode():
                texts = _loaded.encode_text(_encoder.tokenize(captions[first : first + ROWS])[0], normalize=True)
                inputs = _encoder.preprocess.normalize(
                    torch.stack([_encoder.preprocess.image(one) for one in versions])
                )
                (_loaded.encode_image(inputs, normalize=True) * texts).sum(dim=-1).tolist()
    torch.set_num_threads(1)


def speed(source: Path, count: int, rounds: int, ray: bool, work: Path) -> list[dict[str, Any]]:
    """Pictures per second of everything, in turns, and how many times as fast a scan is: a row for each."""
    global _encoder, _loaded
    processes = cores()
    torch.set_num_threads(1)
    loaded = load_encoder(MODEL, "cpu")
    assert isinstance(loaded, OpenClipEncoder)
    _encoder, _loaded = loaded, copy.deepcopy(loaded.model).to(memory_format=torch.contiguous_format)
    table = parquet.read_table(source).slice(0, count)
    parquet.write_table(table, work / "some.parquet", row_group_size=scan_data.GROUP)
    contents, captions = table["image"].to_pylist(), table["caption"].to_pylist()
    pieces = [contents[first : first + ROWS] for first in range(0, count, ROWS)]
    passes = [2 * len(piece) for piece in pieces]
    taken: dict[str, list[tuple[float, float]]] = {}

    def scanned(engine: str) -> None:
        shutil.rmtree(work / "out", ignore_errors=True)
        settings = Settings(workers=processes)
        scan([work / "some.parquet"], work / "out", model=_encoder, method="rule", engine=engine, settings=settings)

    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), _one_thread) as pool:
        list(pool.map(_forward, [1] * 4 * processes))
        list(pool.map(_forward_folded, [1] * 4 * processes))
        ways: dict[str, Callable[[], object]] = {
            "bare decoding": lambda: list(pool.map(_decode, pieces)),
            "bare forward passes, two a picture": lambda: list(pool.map(_forward, passes)),
            "the same, batch norms folded": lambda: list(pool.map(_forward_folded, passes)),
            "scan": lambda: scanned("local"),
            "loop by hand, one thread": lambda: by_hand(contents, captions, 1),
        }
        if processes > 1:
            ways[f"loop by hand, {processes} threads"] = lambda: by_hand(contents, captions, processes)
        if ray:
            import ray as started

            started.init("local", num_cpus=processes + SPARE, log_to_driver=False)  # its start is not counted
            ways["scan, Ray"] = lambda: scanned("ray")
        for _ in range(rounds):
            for name, way in ways.items():
                taken.setdefault(name, []).append(seconds(way))
    print(f"{MODEL}, {count} pictures, {processes} cores, medians of {rounds} rounds\n")
    print(f"{'':36s} pictures/s  ms of a core a picture  scan against it, by the clock  by cores")
    rows = []
    for name, times in taken.items():
        (wall, busy), (our_wall, our_busy) = zip(*times, strict=True), zip(*taken["scan"], strict=True)
        measured = {
            "pictures / s": Spread.of([count / each for each in wall]),
            "core / ms": Spread.of([1000 * each / count for each in busy]),
            "scan by the clock": Spread.of([their / our for their, our in zip(wall, our_wall, strict=True)]),
            "scan by cores": Spread.of([their / our for their, our in zip(busy, our_busy, strict=True)]),
        }
        rate, cost, clock, spent = (each.median for each in measured.values())
        print(f"{name:36s} {rate:10.1f} {cost:23.2f} {clock:30.2f} {spent:9.2f}")
        rows.append({"way": name} | measured)
    return rows


def memory(source: Path, times: int, work: Path) -> None:
    """Most memory of a scan and its processes, of the source and of it several times under other keys."""
    table = parquet.read_table(source)
    contents, captions = table["image"].to_pylist(), table["caption"].to_pylist()
    peaks = []
    for count in (1, times):
        scan_data.write_table(work / f"{count}.parquet", contents, captions, times=count)
        out = work / f"out-{count}"
        done = scan_faults.begun(work / f"{count}.parquet", out, "--method", "rule")
        held = _held(done, out)
        rows, parts = summarise(Folder(out), SCALE).rows, len(scan_faults.parts(out))
        peaks.append(max(held.values()))
        print(f"{rows} pictures: {peaks[-1] / 2**20:.0f} MiB (exit code {done.returncode})", flush=True)
        if count > 1:
            tenths = [max(most for at, most in held.items() if 10 * at <= tenth * parts) for tenth in range(1, 11)]
            print(f"most until each tenth of them: {', '.join(f'{most / 2**20:.0f}' for most in tenths)} MiB")
    print(f"ratio {peaks[1] / peaks[0]:.3f}")


def _held(process: "subprocess.Popen[str]", out: Path) -> dict[int, int]:
    """Most memory, in bytes, of a scan and its processes together, by the parts that are written; shared memory once.

    Files that are mapped, such as libraries, are left out: how much of them counts depends on who else maps them.
    """
    most: dict[int, int] = {}
    while process.poll() is None:
        held = 0
        with suppress(psutil.Error, OSError):  # one of them has ended
            root = psutil.Process(process.pid)
            for each in (root, *root.children(recursive=True)):
                told = Path(f"/proc/{each.pid}/smaps_rollup").read_text(encoding="ascii")
                held += 1024 * sum(int(kib) for kib in re.findall(r"^Pss_(?:Anon|Shmem): +(\d+)", told, re.MULTILINE))
        done = len(scan_faults.parts(out))
        most[done] = max(most.get(done, 0), held)
        time.sleep(0.5)
    return most


def command(sources: list[Path], rounds: int, work: Path) -> None:
    """Rows per second of the whole command with default settings, by the clock and by what processors did."""
    taken = []
    for number in range(rounds):
        out = work / str(number)
        words = [sys.executable, "-m", "foclip", "scan", *map(str, sources), "--out", str(out)]
        before, start = os.times(), time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        after, wall = os.times(), time.perf_counter() - start
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        rows = json.loads((out / "summary.json").read_text())["rows"]
        taken.append((rows / wall, rows / spent, wall, spent))
    print(f"foclip scan, default settings, {rows} rows, {cores()} cores, medians of {rounds} rounds")
    columns = zip(*taken, strict=True)
    clock, processor, wall, spent = (statistics.median(column) for column in columns)
    print(f"{clock:.0f} rows per second ({wall:.1f} s), {processor:.0f} per processor second ({spent:.1f} s)")


class Said(io.StringIO):
    """Standard output that also keeps its lines."""

    def write(self, text: str) -> int:
        """Print, and keep."""
        sys.__stdout__.write(text)  # type: ignore[union-attr]
        return super().write(text)

    @property
    def lines(self) -> list[str]:
        """Lines that are not empty."""
        return [line.strip() for line in self.getvalue().splitlines() if line.strip()]


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", choices=("data", "speed", "command", "memory", "equal", *scan_faults.FAULTS, *scan_faults.KILLS)
    )
    parser.add_argument("source", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("scan-data"), help="folder that data writes")
    parser.add_argument("--pictures", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--method", choices=("combined", "rule"), default="combined", help="of equal")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--times", type=int, default=10)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    said, rows = Said(), []
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(said):
        work = Path(folder)
        if asked.what == "data":
            scan_data.write(asked.source[0], asked.out)
        elif asked.what == "speed":
            rows = speed(asked.source[0], asked.pictures, asked.rounds, asked.ray, work)
        elif asked.what == "command":
            command(asked.source, asked.rounds, work)
        elif asked.what == "memory":
            memory(asked.source[0], asked.times, work)
        elif asked.what == "equal":
            scan_faults.equal(asked.source, asked.method, work)
        elif asked.what in scan_faults.KILLS:
            scan_faults.KILLS[asked.what](asked.source[0], asked.kills, work)
        else:
            scan_faults.FAULTS[asked.what](asked.source[0], work)
    if asked.what != "data":
        result = "\n".join(" ".join(line.split()) for line in said.lines).replace(folder, "…")
        rows = rows or [{"command": record.command(sys.argv[1:]), "result": result}]
        title, table = f"Scans: {asked.what}", asked.source[0].stem
        rests_on: dict[str, Any] = {"models": [MODEL], "detectors": [MODEL], "attacked": False}
        record.save(f"scan-{asked.what}", title, {table: rows}, **rests_on)


if __name__ == "__main__":
    main()
