"""All benchmarks of speed with one command: machine, medians with quartiles, ratios pair by pair in one run.

    python -m benchmarks --out D [--only attack,quality,loops,score,start,growth,memory,unseen]
                         [--models mini,mini-vit] [--device cuda] [--photos PHOTO…] [--old CHECKOUT]

writes a record of each section, `docs/figures/speed-SECTION.json` (`unseen.json`). Rivals are installed into D. Without
--only it takes the better part of an hour on two cores.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import growth, loops, quality, reading, startup, steps, unseen
from benchmarks.record import save
from benchmarks.timing import Section, versions
from foclip.data import images
from foclip.models import embedded

SECTIONS = ("attack", "quality", "loops", "score", "start", "growth", "memory", "unseen")


def main() -> None:
    """Run the sections and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that rivals are installed into")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between")
    parser.add_argument("--models", default="mini,mini-vit,ViT-B-32,RN50,ViT-L-14-336", help="of attack and score")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, …: of attack, quality, loops and growth")
    parser.add_argument("--reference", type=int, default=10_000, help="steps of the attack that quality is measured by")
    parser.add_argument(
        "--photos",
        type=Path,
        nargs="+",
        default=(),
        help="files and folders: of quality and loops, instead of the demo's; of unseen, besides",
    )
    parser.add_argument("--old", type=Path, help="folder with the code of another version: unseen compares its cost")
    parser.add_argument("--most", type=int, default=12_000_000, help="pixels of the largest picture")
    arguments = parser.parse_args()
    if arguments.old and not (arguments.old / "src" / "foclip").is_dir():
        parser.error(f"{arguments.old}: no src/foclip in it")
    torch.set_num_threads(arguments.threads)
    photos = images.find(arguments.photos)
    models, device = arguments.models.split(","), arguments.device
    arguments.out.mkdir(parents=True, exist_ok=True)
    sections: dict[str, Callable[[], Section]] = {
        "attack": lambda: steps.table(models, arguments.repeats, arguments.out / "rivals", arguments.most, device),
        "quality": lambda: quality.table("mini", arguments.reference, device, photos),
        "loops": lambda: loops.table("mini", device, arguments.most, photos),
        "score": lambda: reading.table(models, arguments.repeats),
        "start": lambda: startup.table(arguments.repeats),
        "growth": lambda: growth.table(device),
        "memory": growth.memory,
        "unseen": lambda: unseen.table(photos, arguments.most, arguments.old and arguments.old.resolve()),
    }
    shipped = [name for name in models if name in embedded.names()]
    about = versions(device) | {"threads": arguments.threads}
    for name in arguments.only.split(","):
        print(f"== {name}", flush=True)
        section = sections[name]()
        rests_on: dict[str, Any] = {"models": shipped if name in ("attack", "score") else ["mini"], "settings": about}
        if name == "unseen":
            rests_on["models"] = unseen.MODELS
        if name in ("score", "start"):
            rests_on |= {"attacked": name == "start", "detectors": rests_on["models"]}
        print(save(name if name == "unseen" else f"speed-{name}", section.title, section.tables(), **rests_on))


if __name__ == "__main__":
    main()
