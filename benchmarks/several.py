"""Several scores of one picture in one call, against the passes of the distinct towers behind them.

    python -m benchmarks.several PHOTOS… [--scores A,B=MODEL,…] [--pictures 200] [--rounds 3]

All scores in one call, and one score for each tower in one call, in turn: processor seconds, least of the rounds.
Either call decodes the photographs once and preprocesses them for each tower. A prompt is read once, so its share in
200 pictures is larger than in 1,000.
"""

import argparse
import time
import warnings
from pathlib import Path

import torch

from benchmarks import record
from foclip.cli import options, progress
from foclip.core.scoring import score_by_several
from foclip.data import images
from foclip.data.samples import Sample
from foclip.models.scorer import Scorer

TITLE = "Several scores in one call, against one for each tower behind them"
SCORES = "clipscore,clip-iqa,aesthetic,clipscore=mini-vit,pickscore=mini-vit"


def seconds(paths: list[Path], scorers: dict[str, Scorer], prompt: str) -> float:
    """Processor seconds of one call."""
    samples = [Sample(path.name, path, (prompt,)) for path in paths]
    start = time.process_time()
    rows = list(score_by_several(samples, scorers))
    assert len(rows) == len(paths)
    return time.process_time() - start


def main() -> None:
    """Print and record the processor seconds of both calls, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--scores", default=SCORES)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", default="a photo of a cat.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    paths = images.find(given.photos)[: given.pictures]
    scorers = progress.load_several(options.scores(given.scores, "mini"), "cpu")
    towers = {id(getattr(scorer, "encoder", scorer)): name for name, scorer in reversed(scorers.items())}
    one_each = {name: scorers[name] for name in towers.values()}
    for some in (scorers, one_each):
        seconds(paths[:8], some, given.prompt)
    found = [[seconds(paths, some, given.prompt) for some in (scorers, one_each)] for _ in range(given.rounds)]
    together, passes = (min(each) for each in zip(*found, strict=True))
    print(f"{len(paths)} pictures, processor seconds, least of {given.rounds} rounds")
    print(f"{len(scorers)} scores ({', '.join(scorers)})  {together:.2f}")
    print(f"{len(one_each)} towers, one score each ({', '.join(one_each)})  {passes:.2f}")
    measured = {"all scores / s": together, "one score each / s": passes, "ratio": together / passes}
    models = sorted(scorer.model for scorer in one_each.values())
    row = {"scores": given.scores, "towers": ", ".join(models), **measured}
    settings = {"pictures": len(paths), "rounds": given.rounds}
    record.save("several", TITLE, {"rows": [row]}, models=models, attacked=False, settings=settings)
    print(f"ratio {together / passes:.3f}; each round {', '.join(f'{all_ / one:.3f}' for all_, one in found)}")


if __name__ == "__main__":
    main()
