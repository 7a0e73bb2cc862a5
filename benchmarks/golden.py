"""Golden files: whether a tree still makes the same pictures and the same numbers as another one.

    python -m benchmarks.golden against b56d6bb [--out DIR] [--only 'fool*']    # this working tree against a commit
    python -m benchmarks.golden make TREE OUT [--only PATTERN]                  # run the cases in a tree
    python -m benchmarks.golden compare A B [--only PATTERN]                    # A and B: two folders OUT

`make` runs every case of `benchmarks.golden_cases` with the package in TREE/src, on one thread, and keeps what it
printed and wrote. `compare` prints every difference. It exits with 1 if there is one that was not expected.
Pictures and weights are compared by their bytes, JSON, CSV, Parquet and NumPy files value by value, numbers exactly.

The cases are written in the words of the old tree. What newer trees call otherwise, and which differences do not count,
is in the tables of `benchmarks.golden_names`: add a line there when something is renamed.

With `--only`, a case that reads what another one wrote needs it in OUT: `scan-*`, `detect*` and `library-*` read what
`fool*` and `pools` wrote.
"""

import argparse
import json
import os
import platform
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.golden_cases import CASES, write_pictures
from benchmarks.golden_compare import compare
from benchmarks.golden_names import BASE, FLAGS, RESTATED

ROOT = Path(__file__).parents[1]
#: What most of a command's start is spent on, loaded once for all of them.
PRELOADED = (
    *("torch", "open_clip", "torchmetrics", "pandas", "pyarrow.parquet", "scipy.stats", "skimage.color"),
    *("sklearn.linear_model", "matplotlib.figure", "flip_evaluator", "typer", "jinja2"),
)


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, names in {"make": ("tree", "out"), "compare": ("a", "b"), "against": ("commit",), "work": ()}.items():
        added = verbs.add_parser(verb)
        for name in names:
            added.add_argument(name)
        added.add_argument("--only", default="*", help="pattern of the names of cases")
        if verb == "against":
            added.add_argument("--out", help="folder for both; what it holds of the commit is not made again")
    given = parser.parse_args()
    if given.verb == "make":
        make(Path(given.tree), Path(given.out), given.only)
    elif given.verb == "compare":
        sys.exit(compare(Path(given.a), Path(given.b), given.only))
    elif given.verb == "against":
        sys.exit(against(given.commit, Path(given.out or tempfile.mkdtemp(prefix="golden-")), given.only))
    else:
        work()


def make(tree: Path, out: Path, only: str = "*") -> None:
    """Run the cases in a tree.

    Args:
        tree: A checkout of the project.
        out: Folder for what they print and write. Of what is there, only the cases that are run are replaced.
        only: Pattern of the names of cases.
    """
    tree, out = tree.resolve(), out.resolve()
    write_pictures(out / "pictures")
    calls = {name: call for name, call in _calls(_is_old(tree)).items() if fnmatchcase(name, only)}
    for name in calls:
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir()
    (out / "calls.json").write_text(json.dumps(calls, indent=1), encoding="utf-8")
    (out / "about.json").write_text(json.dumps(_about(tree, out), indent=1), encoding="utf-8")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    paths = {"PYTHONPATH": f"{tree / 'src'}{os.pathsep}{ROOT}", "GOLDEN_TREE": str(tree)}
    environment = os.environ | threads | paths | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "benchmarks.golden", "work"]
    subprocess.run(command, cwd=out, env=environment, stdin=subprocess.DEVNULL, check=True)


def _calls(old: bool) -> dict[str, list[list[str]]]:
    """By the name of its case, every call: `foclip` and its arguments, or `python` and a source text."""
    restated = {} if old else RESTATED
    calls = {}
    for name, written in CASES.items():
        text = restated.get(name, written)
        if "\n" in text:
            calls[name] = [["python", text]]
        else:
            each = [shlex.split(command) for command in text.split(" && ")]
            calls[name] = [["foclip", *(words if old or name in restated else _renamed(words))] for words in each]
    return calls


def _renamed(words: list[str]) -> list[str]:
    """The words of a command line with the flags of a new tree."""
    line = f" {shlex.join(words)} "
    for old, new in FLAGS.items():
        command, _, flag = old.partition(" ")
        if words[0] == command:
            line = line.replace(f" {flag} ", f" {new} ")
    return shlex.split(line)


def _is_old(tree: Path) -> bool:
    asked = ["git", "-C", str(tree), "diff", "--quiet", BASE, "--", "src"]
    return subprocess.run(asked, stderr=subprocess.DEVNULL, check=False).returncode == 0


def _about(tree: Path, out: Path) -> dict[str, Any]:
    """Which tree made what, and on which machine."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    packages = {name: version(name) for name in ("torch", "open_clip_torch", "numpy", "pillow", "scikit-learn")}
    machine = {"processor": cpu.partition(": ")[2], "python": platform.python_version(), **packages}
    return {"tree": str(tree), "out": str(out), "old": _is_old(tree), "machine": machine}


def work() -> None:
    """Make every call of `calls.json` in a process of its own, forked from this one, which has loaded what is slow."""
    found = find_spec("foclip")
    source = Path(os.environ["GOLDEN_TREE"], "src")
    assert found is not None
    assert found.origin is not None
    assert Path(found.origin).is_relative_to(source), f"{found.origin} is not in {source}"
    for package in PRELOADED:
        with suppress(ImportError):  # a newer tree may do without
            import_module(package)
    total = 0.0
    for name, calls in json.loads(Path("calls.json").read_text(encoding="utf-8")).items():
        codes, seconds = [], 0.0
        for number, call in enumerate(calls, start=1):
            if not (child := os.fork()):
                _call(Path(name), number, call)
            _, status, used = os.wait4(child, 0)
            codes.append(os.waitstatus_to_exitcode(status))
            seconds += used.ru_utime + used.ru_stime
        Path(name, "exit.json").write_text(json.dumps(codes))
        total += seconds
        print(f"{name:<26} exit {', '.join(map(str, codes)):<8} {seconds:6.1f} processor seconds", flush=True)
    print(f"{total:.0f} processor seconds in all, and those of the start")


def _call(folder: Path, number: int, call: list[str]) -> NoReturn:
    """Make one call in its folder, and end this process."""
    os.chdir(folder)
    kind = "json" if "--json" in call else "txt"
    for stream, name in ((1, f"stdout-{number}.{kind}"), (2, f"stderr-{number}.txt")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
    code: Any = 0
    try:
        if call[0] == "python":
            names: dict[str, Any] = {}
            exec(call[1], names)
            Path("answer.json").write_text(json.dumps(names["answer"], default=_plain), encoding="utf-8")
        else:
            sys.argv = call
            runpy.run_module("foclip", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _plain(value: Any) -> Any:
    """What JSON takes of an answer: arrays and tensors as lists, objects as their attributes."""
    return value.tolist() if hasattr(value, "tolist") else vars(value)


def against(commit: str, out: Path, only: str = "*") -> int:
    """Compare this working tree with a commit; what `out` holds of that commit from before is not made again.

    Args:
        commit: The commit.
        out: Folder for what both made.
        only: Pattern of the names of cases.

    Returns:
        As `compare`.
    """
    git = ["git", "-C", str(ROOT)]
    asked = [*git, "rev-parse", "--short=12", commit]
    base = out / subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    now = out / "now"
    with tempfile.TemporaryDirectory(prefix="golden-tree-") as folder:
        tree = Path(folder, "tree")
        subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            wanted = {name for name in _calls(_is_old(tree)) if fnmatchcase(name, only)}
            if not all((base / name / "exit.json").is_file() for name in wanted):
                make(tree, base, only)
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(tree)], check=True)
    make(ROOT, now, only)
    print(f"made {base} and {now}")
    return compare(base, now, only)


if __name__ == "__main__":
    main()
