"""What a short `foclip harden` takes and gains: ``python -m benchmarks.hardening [--data ../shared/data]``.

50 steps of `mini` on 200 photographs, a tenth of which are held out to measure on: the rise of the score that an
attacker reaches at the budget of the training, before and after. Processor seconds are those of the whole command, with
one thread. Beside it, how `mini-robust` was trained, as its own file says. Writes docs/figures/harden-cost.json.
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.common import Table
from benchmarks.record import save
from benchmarks.startup import spent
from foclip.models import embedded
from training.universal import photographs

#: Photographs, and updates of the weights.
PHOTOGRAPHS, STEPS = 200, 50
MODEL, HARDENED = "mini", "mini-robust"


def main() -> None:
    """Print and record the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    choice = parser.parse_args()
    images = [word for file in photographs(choice.data, "fit")[0][:PHOTOGRAPHS] for word in ("--images", str(file))]
    cost, trained = Table(), Table()
    with tempfile.TemporaryDirectory() as folder:
        asked = ["--steps", str(STEPS), "--out", f"{folder}/hardened", "--json"]
        seconds, told = spent("-m", "foclip", "harden", "--model", MODEL, *images, *asked)
    found = json.loads(told)
    rises = {f"rise {when}": found[when]["rise"] for when in ("before", "after")}
    at = {"budget / dB": found["settings"]["min_psnr"], "pictures": found["pictures"]}
    cost.add({"steps": STEPS, "processor seconds": seconds, **rises, **at})
    run = json.loads((embedded.path(HARDENED) / "training.json").read_text())
    steps, batch = (run["settings"][name] for name in ("steps", "batch_size"))
    trained.add({"steps": steps, "passes": steps * batch / run["pictures"], "pictures": run["pictures"]})
    tables = {"cost": cost, HARDENED: trained}
    title = "What hardening mini takes and gains"
    print(save("harden-cost", title, tables, models=[MODEL, HARDENED], settings={"photographs": PHOTOGRAPHS}))


if __name__ == "__main__":
    main()
