"""What is seen of the default's pictures, as an independent metric judges it, and what the default costs.

The default of `foclip fool` (`invisible`, 150 steps) fools the demo's four photos, and those of --photos, for ten
artworks. ColorVideoVDP (Mantiuk et al. 2024), which nothing here optimises, compares each file with its original, as on
a 4K display that is seen from two of its heights, and from half of that. It is installed into a virtual environment of
the benchmark's own, which sees this one's packages. Aims: a mean of at least 9.9 JOD and 9.8 for each photo, a
CIEDE2000 of at most 5 in its 99th percentile, and every prompt of every photo up; for the demo's four a mean score of
at least 0.42 with `mini`. A score is 0 where the cosine is negative, before and after.

`--only start` compares start-up with `import torch`; `python -m benchmarks.flip` compares FLIP with its authors'.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.common import fooled, of_size
from benchmarks.timing import Section
from foclip.attacks import default_plan
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.demo import photos
from foclip.models import load_encoder
from foclip.models.batching import read_figures
from foclip.models.scorer import Scorer
from foclip.models.scores import CLIPScore
from foclip.outcome import mean
from foclip.perceptual.fidelity import Comparison

MODELS = ("mini", "mini-vit")
JUDGE, DISPLAY = "cvvdp==0.5.7", "standard_4k"
#: Viewing distances, in parts of the display's own.
DISTANCES = {"JOD": 1.0, "JOD from half as far": 0.5}
#: Prints the JOD of files and their originals from each distance.
JUDGING = f"""
import json, sys, numpy, torch
from PIL import Image
from pycvvdp import cvvdp
from pycvvdp.display_model import vvdp_display_geometry
torch.set_num_threads(1)
pictures = [numpy.array(Image.open(path)) for path in sys.argv[1:]]
found = []
for distance in {list(DISTANCES.values())}:
    geometry = vvdp_display_geometry.load({DISPLAY!r})
    geometry.distance_m *= distance
    metric = cvvdp({DISPLAY!r}, display_geometry=geometry, quiet=True, device=torch.device("cpu"))
    pairs = zip(pictures[::2], pictures[1::2])
    found.append([float(metric.predict(file, original, dim_order="HWC")[0]) for file, original in pairs])
print(json.dumps(found))
"""
#: Runs a command and prints its processor seconds and peak memory. It stands between the two processes since the peak
#: of a process includes the memory of the one that started it.
MEASURING = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))
"""
#: Options of the runs whose cost is compared; the last is the plain attack.
RUNS = {"default": (), "discreet": ("--budget", "discreet"), "35 dB": ("--min-psnr", "35")}
#: Width and height of the pictures whose cost is measured.
SIZES = ((256, 256), (1024, 768), (2048, 1536), (4000, 3000))
#: Pixels of the photos of one run with many.
SMALL = 100_000


def table(files: Sequence[Path], most: int, old: Path | None) -> Section:
    """One row per model and list of photos, and the table of costs."""
    section = Section("What is seen of the default, and what it costs")
    with tempfile.TemporaryDirectory() as folder:
        judge = installed(Path(folder))
        for model in MODELS:
            score = CLIPScore(load_encoder(model))
            for name, paths in (("the demo's four", photos()), (f"{len(files)} others", files)):
                if paths:
                    section.add(model=model, photos=name, **seen(score, paths, judge))
    section.parts.append(costs(most, old))
    return section


def installed(folder: Path) -> Path | None:
    """The Python of a virtual environment with the judge; None, said aloud, if it cannot be installed."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    packages = sysconfig.get_path("purelib", "posix_prefix", vars={"base": str(folder)})
    (Path(packages) / "parent.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    if subprocess.run([python, "-m", "pip", "install", "-q", JUDGE], check=False).returncode:
        print(f"{JUDGE} could not be installed, so JOD are left out", file=sys.stderr)
        return None
    return python


def seen(score: Scorer, paths: Sequence[Path], judge: Path | None) -> dict[str, object]:
    """Scores before and after, and what is seen of the change."""
    originals = [images.read(path) for path in paths]
    pictures = [images.to_tensor(original) for original in originals]
    files = fooled(default_plan(score), score, pictures, [ARTWORKS] * len(pictures))
    before, after = figures(score, originals), figures(score, [images.to_image(file) for file in files])
    pairs = [(a, b) for old, new in zip(before, after, strict=True) for a, b in zip(old, new, strict=True)]
    colour = [
        float(Comparison(file, picture).figures(("delta_e99",))["delta_e99"])
        for file, picture in zip(files, pictures, strict=True)
    ]
    found: dict[str, object] = {"before": mean([a for a, _ in pairs]), "after": mean([b for _, b in pairs])}
    found |= {"prompts": len(pairs), "prompts up": sum(b > a for a, b in pairs)}
    found["prompts at 0 as before"] = sum(a == b == 0 for a, b in pairs)
    if judge:
        for distance, each in zip(DISTANCES, judged(judge, files, originals), strict=True):
            found |= {f"{distance}, mean": mean(each)} | extreme(f"{distance}, least", min, each, paths)
    return found | extreme("CIEDE2000's 99th percentile, most", max, colour, paths)


def extreme(name: str, of: Callable[..., Any], values: Sequence[float], paths: Sequence[Path]) -> dict[str, object]:
    """The least or largest figure, and the photo that it is of."""
    value, path = of(zip(values, paths, strict=True))
    return {name: value, f"{name}, of": path.stem}


def figures(score: Scorer, pictures: Sequence[Image.Image]) -> list[list[float]]:
    """Scores of pictures, as `foclip score` gives them for the files, one for each artwork."""
    targets = score.encode_prompts(ARTWORKS)
    return read_figures(score, [score.preprocess.image(each) for each in pictures], [targets] * len(pictures))


def judged(judge: Path, files: Sequence[torch.Tensor], originals: Sequence[Image.Image]) -> list[list[float]]:
    """JOD of files from each distance. The judge gets what `images.read` makes of an original, in sRGB."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(2 * len(files))]
        for path, picture in zip(paths[::2], files, strict=True):
            images.to_image(picture).save(path)
        for path, original in zip(paths[1::2], originals, strict=True):
            original.save(path)
        said = subprocess.run([judge, "-c", JUDGING, *paths], check=True, stdout=subprocess.PIPE, text=True).stdout
    found: list[list[float]] = json.loads(said.splitlines()[-1])
    return found


def costs(most: int, old: Path | None) -> Section:
    """One row per picture's size: processor seconds of whole commands, one run each, in turn, and their ratios.

    Copies in float32 are peak memory above the first row's. Aims, by row: a default / 35 dB of at most 1.3, 1.5, 1.5
    and 2; 10 copies in the last; old / default of at least 2, 4, 8 and 15, and 1.5 for many at once.
    """
    section, astronaut = Section("Cost of the default", "cost"), images.read(photos()[0])
    base = 0.0
    for width, height in [size for size in SIZES if size[0] * size[1] <= most]:
        spent, peak = spent_on([astronaut.resize((width, height), Image.Resampling.LANCZOS)], old)
        base = base or peak
        copies = (peak - base) / (3 * 4 * width * height) if peak != base else None
        section.add(picture=f"{width}×{height}", **ratios(spent), **{"float32 copies": copies})
    if old:
        small = [of_size(images.read(path), SMALL) for path in photos()]
        turns = (None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180)
        many = [each if turn is None else each.transpose(turn) for turn in turns for each in small]
        section.add(picture=f"{len(many)} of 0.1 megapixels", **ratios(spent_on(many, old)[0]))
    return section


def spent_on(pictures: Sequence[Image.Image], old: Path | None) -> tuple[dict[str, float], float]:
    """Processor seconds of each run, and of the old code's default, on these pictures; the default's peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(len(pictures))]
        for path, picture in zip(paths, pictures, strict=True):
            picture.save(path)
        found = {name: command(paths, options) for name, options in RUNS.items()}
        if old:
            found["old"] = command(paths, (), old)
    return {name: seconds for name, (seconds, _) in found.items()}, found["default"][1]


def command(paths: Sequence[Path], options: Sequence[str], old: Path | None = None) -> tuple[float, float]:
    """Processor seconds and peak memory, in bytes, of one `foclip fool`: this code's, or that of an old checkout."""
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    if old:
        environment["PYTHONPATH"] = str(old / "src")
    with tempfile.TemporaryDirectory() as out:
        asked = ["-m", "foclip", "fool", *map(str, paths), "--prompts", "artworks", *options, "--out", out]
        run = [sys.executable, "-c", MEASURING, sys.executable, *asked]
        seconds, peak = json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE, env=environment).stdout)
    return seconds, peak


def ratios(spent: Mapping[str, float]) -> dict[str, object]:
    """Seconds, and ratios to the plain attack and of the old code."""
    found: dict[str, object] = {f"{name} / s": seconds for name, seconds in spent.items()}
    *ours, plain = RUNS
    found |= {f"{name} / {plain}": spent[name] / spent[plain] for name in ours}
    return found | {f"old / {name}": spent["old"] / spent[name] for name in ours if "old" in spent}
