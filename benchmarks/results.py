"""Write docs/results.md from finished runs of `foclip reproduce`.

    python -m benchmarks.results DIR… [--docs docs]

For every study the first DIR that has its table counts. Pages are made anew from the tables, with
nothing measured here, so the document and the runs cannot differ. Figures go to docs/results.
"""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

import pandas as pd

from foclip import files
from foclip.studies import available
from foclip.studies.harness import TABLE, StudyResult, png, read

HEAD = """# Results

This page shows the paper's figures beside ours, and what the studies found. It was written by

```
python -m benchmarks.results {folders}
```

from the tables of the runs named at each study. [studies.md](studies.md) says what each study asks and how to read its
numbers.

- Scores are CLIPScore, 2.5 · max(cos, 0), of 8-bit files. Brackets are 95 % intervals over photos. If a study takes
  fewer photos than its run has, its table says how many.
- The paper's figures are of ViT-L/14 at 336 pixels and of its own pictures. Ours are of the small encoders that
  come with the package. Compare whether an effect is there and which way it points, not the digits.
- `--images` and `--paintings` take folders of your own. Ours hold photos of ImageNet classes, which may not be
  passed on, and the paintings themselves.
- SSIM in these tables counts borders of pictures that were continued by reflection, as torchmetrics does. Today SSIM is
  the mean over windows within the picture (Wang et al. 2004). The two differ by up to 0.005 on photos of this
  size. The runs take hours, and pictures that may not be passed on, so they were not repeated.
- These runs were made with older code, and some words were renamed since. In all but `robust` the budget counted
  every pixel of a picture. It now holds on the part that the model sees as well, which leaves an attacker slightly
  less on pictures that a model crops.

On a GPU, the paper's own encoder with an adversarially trained one beside it:

```
foclip reproduce all --model ViT-L-14-336-quickgelu/openai --also hf-hub:chs20/fare2-clip --device cuda \\
    --images PHOTOS --paintings PAINTINGS --out results-vit-l
```

"""


def command(study: str, settings: dict[str, Any]) -> str:
    """The command that repeats a study."""
    words = ["foclip", "reproduce", study]
    words += ["--quick"] if settings["quick"] else []
    for option in ("images", "paintings"):
        words += [f"--{option}", Path(settings[option]).name] if settings[option] else []
    words += ["--seed", str(settings["seed"])] if settings["seed"] else []
    return shlex.join([*words, "--out", "DIR"])


def cell(text: object) -> str:
    """Text of a table's cell."""
    return str(text).replace("|", "\\|")


def grid(table: pd.DataFrame) -> str:
    """A Markdown table; numbers to the right."""
    rows = [list(table.columns), ["---", *["---:"] * (len(table.columns) - 1)], *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(cell, row)) + " |" for row in rows)


def section(study: StudyResult, run: dict[str, Any], pictures: Path) -> str:
    """What the document says of a study; its figures are written to `pictures`."""
    length = "Quick run" if run["settings"]["quick"] else "Full run"
    parts = [f"## {study.title.rstrip('.')}", f"```\n{command(study.name, run['settings'])}\n```"]
    photos, torch = len(run["pictures"]), run["versions"]["torch"]
    parts.append(f"*{length} with {photos} photos on `{run['model']}`, torch {torch}, {run['device']}.*")
    parts.append("\n".join(f"- {sentence}" for sentence in study.report.findings))
    parts.append(grid(study.report.summary))
    for name, plot in study.report.figures.items():
        path = pictures / f"{study.name}-{name}.png"
        files.write_bytes(path, png(plot, 90))
        parts.append(f"![{study.name}: {name.replace('-', ' ')}]({pictures.name}/{path.name})")
    return "\n\n".join(parts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    choice = parser.parse_args()
    pictures = files.output_folder(choice.docs / "results")
    sections, comparisons = [], []
    for name, which in available().items():
        run_folder = next((folder for folder in choice.runs if (folder / name / TABLE).is_file()), None)
        if run_folder is None:
            print(f"{name}: in none of the runs")
            continue
        study, run = read(which, run_folder), json.loads((run_folder / "run.json").read_text())
        sections.append(section(study, run, pictures))
        comparisons += [
            {
                "study": f"`{name}`",
                "figure": b.quantity,
                "paper": f"{100 * b.paper:.1f} %",
                "ours": f"{b.ours:.1%}",
                "photos": b.ours.photos,
            }
            for b in study.report.comparisons
        ]
    folders = " ".join(folder.name for folder in choice.runs)
    text = HEAD.format(folders=folders) + grid(pd.DataFrame(comparisons)) + "\n\n" + "\n\n".join(sections) + "\n"
    files.write_text(choice.docs / "results.md", text)


if __name__ == "__main__":
    main()
