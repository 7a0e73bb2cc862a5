"""Write `data/`: small data sets as the programs that people use write them, and what is in each (`data.json`).

    python tests/real/make.py

It makes environments of its own in a temporary folder, since img2dataset and pandas 3 do not go together. It needs
the package registry, Java (for Spark), GNU tar, bsdtar and pax.
"""

import http.server
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
DATA, FACTS = HERE / "data", HERE / "data.json"
#: What each environment has.
TABLES = (
    "datasets==5.2.0",
    "duckdb==2.0.1",
    "polars==2.1.0",
    "pandas==3.1.1",
    "pyarrow",
    "webdataset==1.0.2",
    "pillow",
)
DOWNLOADS = ("img2dataset==1.47.0", "pyspark==4.3.0")
CAPTIONS = ["a cat", "a dog, asleep", "“quoted”, with commas", "café", "猫", "two  words", "7", "a photo of the end."]


def main() -> None:
    """Write everything anew."""
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir()
    versions = {name: said(name, "--version") for name in ("tar", "bsdtar")}
    facts: dict[str, Any] = {"versions": versions | {"tarfile": sys.version.split()[0]}}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        pictures = make_pictures(work / "pictures")
        facts["sources"] = make_tars(pictures)
        for script, needed in (("tables", TABLES), ("downloads", DOWNLOADS)):
            python = environment(work / script, needed)
            with served(pictures) as url:
                subprocess.run([python, HERE / "writers.py", script, pictures, DATA, url], check=True, cwd=work)
            listed = json.loads(said(str(python), "-m", "pip", "list", "--format=json"))
            known = {entry["name"]: entry["version"] for entry in listed}
            packages = (*(each.partition("=")[0] for each in needed), "pyarrow")
            facts["versions"] |= {f"{each} ({script})": known[each] for each in packages}
            facts["sources"] |= json.loads((work / f"{script}.json").read_text())
    FACTS.write_text(json.dumps(facts, indent=1) + "\n")


def make_pictures(folder: Path) -> Path:
    """Eight JPEGs with a sidecar each; a path is longer than the first tars allow, and one is no ASCII."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number, caption in enumerate(CAPTIONS):
        stem = {3: "café", 5: "long-" * 18}.get(number, f"{number:03}")
        pixels = np.kron(generator.integers(0, 256, (2, 2, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{stem}.jpg")
        (folder / f"{stem}.txt").write_text(caption, encoding="utf-8")
    return folder


def make_tars(pictures: Path) -> dict[str, Any]:
    """Tars of the folder by the programs at hand, in all forms they have; their facts."""
    made: dict[str, tuple[str, list[str]]] = {}
    sort = ("--sort=name", "--mtime=@0", "--owner=0", "--group=0")
    for form in ("gnu", "pax", "ustar"):
        made[f"gnu-{form}.tar"] = f"GNU tar, {form}", ["tar", f"--format={form}", *sort, "-cf"]
    made["gnu.tar.gz"] = "GNU tar, gzip", ["tar", *sort, "-czf"]
    made["gnu.tar.bz2"] = "GNU tar, bzip2", ["tar", *sort, "-cjf"]
    made["gnu.tar.xz"] = "GNU tar, xz", ["tar", *sort, "-cJf"]
    for form in ("ustar", "pax", "gnutar"):  # as given, since neither bsdtar nor pax sorts
        made[f"bsd-{form}.tar.gz"] = f"bsdtar, {form}", ["bsdtar", f"--format={form}", "-czf"]
    made["pax-ustar.tar"] = "pax (MirBSD), ustar", ["pax", "-w", "-x", "ustar", "-f"]
    facts = {}
    names = [f"{pictures.name}/{path.name}" for path in sorted(pictures.iterdir())]
    for name, (writer, command) in made.items():
        given = [pictures.name] if command[0] == "tar" else names
        subprocess.run([*command, DATA / name, *given], check=True, cwd=pictures.parent)
        facts[name] = fact("tar", writer)
    for name, number in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        with tarfile.TarFile(DATA / f"python-{name}.tar", "w", format=number) as archive:
            for path in sorted(pictures.iterdir()):
                archive.add(path, f"pictures/{path.name}")
        facts[f"python-{name}.tar"] = fact("tar", f"Python's tarfile, {name}")
    halves = [sorted(path.name for path in pictures.iterdir())[part] for part in (slice(8), slice(8, None))]
    for number, half in enumerate(halves):
        subprocess.run(["tar", *sort, "-cf", DATA / f"half-{number}.tar", "-C", pictures, *half], check=True)
    parts = [(DATA / f"half-{number}.tar").read_bytes() for number in (0, 1)]
    (DATA / "joined.tar").write_bytes(b"".join(parts))
    facts["joined.tar"] = fact("tar", "GNU tar, two joined by cat")
    shutil.move(DATA / "half-0.tar", DATA / "appended.tar")
    subprocess.run(["tar", *sort, "-rf", DATA / "appended.tar", "-C", pictures, *halves[1]], check=True)
    facts["appended.tar"] = fact("tar", "GNU tar, appended with -r")
    (DATA / "half-1.tar").unlink()
    return facts


def fact(kind: str, writer: str, rows: int = len(CAPTIONS), captions: int = len(CAPTIONS)) -> dict[str, Any]:
    """What there is to be known of a source: rows and captions that were written."""
    return {"kind": kind, "writer": writer, "rows": rows, "captions": captions}


def environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """A new virtual environment's Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "-q", *packages], check=True)
    return folder / "bin" / "python"


def said(*command: str) -> str:
    """What a program prints, or only its first line of `--version`."""
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return told.splitlines()[0] if command[-1] == "--version" else told


class served:
    """A web server of a folder, on this machine alone, for what downloads pictures."""

    def __init__(self, folder: Path) -> None:
        handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


if __name__ == "__main__":
    main()
