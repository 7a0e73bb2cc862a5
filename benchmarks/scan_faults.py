"""What becomes of a scan that is killed, loses a node, its disk or its source, or is fed with damage."""

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet

from benchmarks import scan_data
from foclip.runs import workers

#: Figures of a row that may differ by rounding, and what may not differ at all.
FIGURES = ("score", "probe_score", "drop", "drift", "p_value")
SAID = ("verdict", "probe", "decided_by", "error", "sha256")
#: Ways to do the same scan; the first is what the others are compared with.
WAYS = {
    "local, 2 workers, chunks of 32": (),
    "local, 1 worker, chunks of 7": ("--workers", "1", "--batch-size", "7"),
    "local, 3 workers, chunks of 100": ("--workers", "3", "--batch-size", "100"),
    "Ray, 2 actors, chunks of 32": ("--engine", "ray", "--workers", "2"),
    "Ray, 1 actor, chunks of 10": ("--engine", "ray", "--workers", "1", "--batch-size", "10"),
}


def command(source: Path, out: Path, *options: str) -> list[str]:
    """The command line of a scan."""
    return [sys.executable, "-m", "foclip", "scan", str(source), "--out", str(out), *options]


def run(source: Path, out: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """A scan, to its end."""
    return subprocess.run(command(source, out, *options), capture_output=True, text=True)


def begun(source: Path, out: Path, *options: str) -> "subprocess.Popen[str]":
    """A scan that has begun."""
    return subprocess.Popen(
        command(source, out, *options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def parts(out: Path) -> list[Path]:
    """The finished parts."""
    return sorted((out / "parts").glob("[0-9]*.parquet")) if (out / "parts").exists() else []


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of every part."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in parts(out)}


def rows(out: Path) -> pd.DataFrame:
    """All rows, in their order."""
    return pa.concat_tables([parquet.read_table(path) for path in parts(out)]).to_pandas()


def at_parts(process: "subprocess.Popen[str]", out: Path, count: int) -> bool:
    """Wait until a scan has finished so many parts; whether it is still at work then."""
    while len(parts(out)) < count and process.poll() is None:
        time.sleep(0.05)
    return process.poll() is None


def undisturbed(source: Path, work: Path) -> dict[str, str]:
    """Digests of the parts of a scan that nobody disturbed."""
    out = work / "whole"
    done = run(source, out, "--method", "rule")
    print(f"undisturbed: exit code {done.returncode}, {len(rows(out))} rows in {len(parts(out))} parts", flush=True)
    return digests(out)


def compare(out: Path, expected: dict[str, str]) -> None:
    """Say whether the parts are those of the run that nobody disturbed."""
    found = digests(out)
    same = sum(found.get(name) == digest for name, digest in expected.items())
    print(f"parts equal byte for byte: {same} of {len(expected)}; others: {len(found.keys() - expected.keys())}")


def equal(sources: Sequence[Path], method: str, work: Path) -> None:
    """The same scan by both engines, with several numbers of workers and sizes of chunks.

    Args:
        sources: Data sets of the same pictures under the same keys; the first in every one of `WAYS`, the others in the
            first of either engine.
        method: What decides: "combined", or "rule".
        work: Folder to work in.
    """
    first: pd.DataFrame | None = None
    plan = [(sources[0], name) for name in WAYS]
    plan += [(source, name) for source in sources[1:] for name in (*list(WAYS)[:1], *list(WAYS)[3:4])]
    for number, (source, name) in enumerate(plan):
        begin = time.perf_counter()
        done = run(source, work / str(number), "--method", method, *WAYS[name])
        taken = time.perf_counter() - begin
        found = rows(work / str(number)).sort_values("key", ignore_index=True)
        first = found if first is None else first
        worst = float((found[list(FIGURES)] - first[list(FIGURES)]).abs().max().max())
        other = sum(int((~(found[c].eq(first[c]) | (found[c].isna() & first[c].isna()))).sum()) for c in SAID)
        other += sum(int((found[f].isna() != first[f].isna()).sum()) for f in FIGURES)
        print(
            f"{source.name}, {name}: exit code {done.returncode}, {taken:.0f} s, {len(found)} rows, "
            f"{found.key.nunique()} keys, {found.error.notna().sum()} errors, {found.tampered.sum()} tampered; "
            f"largest difference of a figure {worst:.1g}, other verdicts, reasons or gaps {other}",
            flush=True,
        )


def killed(source: Path, kills: int, work: Path) -> None:
    """SIGKILL at random moments, resumed each time."""
    begin = time.perf_counter()
    expected = undisturbed(source, work)
    whole, draws, stopped, out = time.perf_counter() - begin, random.Random(0), 0, work / "out"
    for _ in range(kills):
        process = begun(source, out, "--method", "rule")
        try:
            process.wait(draws.uniform(0.05, 0.25) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            stopped += 1
        process.communicate()
        time.sleep(5 * workers.NOTICE)  # its workers see that it is gone
        print(f"killed at {len(parts(out))} parts", flush=True)
    last = run(source, out, "--method", "rule")
    print(f"killed {stopped} of {kills} times; exit code at last {last.returncode}")
    compare(out, expected)


def node(source: Path, kills: int, work: Path) -> None:
    """A worker node of a Ray cluster killed at random moments, and replaced, while one scan goes on."""
    from ray.cluster_utils import Cluster

    expected = undisturbed(source, work)
    draws, out, lost = random.Random(0), work / "out", 0
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    moments = sorted(draws.sample(range(2, len(expected) - 4), kills))
    process = begun(source, out, "--method", "rule", "--engine", "ray", "--address", cluster.address)
    for moment in moments:
        if at_parts(process, out, moment):
            time.sleep(draws.uniform(0, 1))
            cluster.remove_node(nodes.pop(draws.randrange(len(nodes))), allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1))
            lost += 1
            print(f"a node killed at {len(parts(out))} parts", flush=True)
    process.communicate()
    print(f"{lost} nodes killed; exit code at last {process.returncode}")
    compare(out, expected)
    cluster.shutdown()


def damaged(source: Path, work: Path) -> None:
    """One row of twenty damaged, a tar cut in the middle, tables with columns of another type."""
    expected = scan_data.damaged(source, work / "data")
    done = run(work / "data", work / "out", "--method", "rule")
    found = rows(work / "out")
    found["file"] = found.source.str.rpartition("/")[2]
    failed = found[found.error.notna()]
    told = {(row.file, row.key): row.error for row in failed.itertuples()}
    print(f"exit code {done.returncode}; {len(found)} rows, {len(expected)} damaged ({len(expected) / len(found):.1%})")
    print(f"rows with an error: {len(failed)}; damaged rows without their reason: ", end="")
    print(sum(said not in told.get(where, "") for where, said in expected.items()), end="; sound rows with one: ")
    print(len(told.keys() - expected.keys()))
    sound = found[found.error.isna()]
    print(f"sound rows: {len(sound)}, of which without a score: {int(sound.score.isna().sum())}")
    for reason, count in Counter(expected.values()).items():
        print(f"  {count:4d} × {reason}")
    print(done.stderr, file=sys.stderr)


def full(source: Path, work: Path) -> None:
    """A disk (a tmpfs; takes root) that has no room for all parts; then one that has."""
    expected = undisturbed(source, work)
    room = sum(path.stat().st_size for path in (work / "whole").rglob("*") if path.is_file())
    disk = work / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room * 2 // 3}", "tmpfs", str(disk)], check=True)
    try:
        _stopped(run(source, disk / "out", "--method", "rule"), disk / "out", expected)
        subprocess.run(["mount", "-o", "remount,size=256m", str(disk)], check=True)
        print(f"with more room: exit code {run(source, disk / 'out', '--method', 'rule').returncode}")
        compare(disk / "out", expected)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def gone(source: Path, work: Path) -> None:
    """A folder that is moved away in the middle of its scan, and comes back."""
    data, away, out = work / "data", work / "away", work / "out"
    shutil.copytree(source, data)
    expected = undisturbed(data, work)
    process = begun(data, out, "--method", "rule")
    if at_parts(process, out, 2):
        data.rename(away)
    said = process.communicate()[1]
    _stopped(subprocess.CompletedProcess([], process.returncode, "", said), out, expected)
    away.rename(data)
    print(f"brought back: exit code {run(data, out, '--method', 'rule').returncode}")
    compare(out, expected)


def _stopped(done: "subprocess.CompletedProcess[str]", out: Path, expected: dict[str, str]) -> None:
    found = digests(out)
    intact = sum(expected.get(name) == digest for name, digest in found.items())
    # Lines of progress begin with a time.
    said = "; ".join(line for line in done.stderr.strip().splitlines() if not line.startswith("["))
    print(f"stopped: exit code {done.returncode}, and said: {said}")
    print(f"finished parts: {len(found)} of {len(expected)}, of which as they should be: {intact}", flush=True)


#: What takes a source and a folder to work in.
FAULTS: dict[str, Callable[[Path, Path], None]] = {"damaged": damaged, "full": full, "gone": gone}
#: What takes a number of kills as well.
KILLS: dict[str, Callable[[Path, int, Path], None]] = {"killed": killed, "node": node}
