"""Eight threads at once over what makes figures: does each get what one thread alone gets?

    python -m benchmarks.threads [--seconds 60] [--threads 8] [--model mini]

The threads share one encoder, one metric of each kind and one cache of prompts, and call everything in an order of
their own until the time is over. Every answer is compared, to the last bit, with that of one thread before. The command
prints how often each kind was called, and how often it gave another answer or an error, and ends with exit code 1 if
any did. The counts are written to docs/figures/threads.json.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import Any

import torch
from PIL import Image

import foclip
from benchmarks.record import save
from foclip.data import images
from foclip.demo import photos
from foclip.metrics import CLIPScore, RobustCLIPScore, clip_score, robust_clip_score
from foclip.models import OpenClipEncoder, load_encoder
from foclip.models.batching import TargetCache
from foclip.models.scores import CLIPScore as Score

#: Different calls of each kind; side of the pictures, in pixels; and how far a shared metric's mean may be from that of
#: the same batches in another order: floats do not add up to the same in any order.
CALLS, SIDE, ROUNDING = 3, 150, 1e-6
#: How often kinds are called for one call of the others, which take much longer.
OFTEN = {"tokenize": 50, "encode_texts": 5, "encode_prompts": 5}
#: The kind of call that adds to shared metrics.
UPDATE = "update of shared metrics"
#: What is called: kind and number of the call to an answer that can be compared with ==.
Calls = dict[str, Callable[[int], Any]]


def calls(
    encoder: OpenClipEncoder, pictures: Sequence[Image.Image], shared: Sequence[CLIPScore | RobustCLIPScore]
) -> Calls:
    """Everything public that makes a figure or what figures are made of; `shared` metrics are added to."""
    score = Score(encoder)
    cache = TargetCache(score, size=2)
    texts = [[f"a photo of {'a very ' * number}big thing", "a cat"] for number in range(CALLS)]

    def pair(number: int) -> tuple[list[Image.Image], list[str]]:
        return [*islice(cycle(pictures), number, number + 2)], texts[number]

    def tokenize(number: int) -> Any:
        tokens, cut = encoder.tokenize(texts[number])
        return tokens.tolist(), cut

    def update(number: int) -> None:
        for metric in shared:
            metric.update(*pair(number))

    def robust(number: int) -> Any:
        return {name: float(value) for name, value in robust_clip_score(*pair(number), encoder).items()}

    return {
        "tokenize": tokenize,
        "encode_texts": lambda number: encoder.encode_texts(texts[number]).tolist(),
        "encode_prompts": lambda number: torch.as_tensor(cache(tuple(texts[number]))).tolist(),
        "encode_pictures": lambda number: encoder.encode_pictures(pair(number)[0]).tolist(),
        "score": lambda number: [row.scores for row in foclip.score(*pair(number), model=score)],
        "detect": lambda number: [row.p_value for row in foclip.detect(*pair(number), model=score)],
        "clip_score": lambda number: float(clip_score(*pair(number), encoder)),
        "robust_clip_score": robust,
        UPDATE: update,
    }


def compare(
    encoder: OpenClipEncoder, pictures: Sequence[Image.Image], seconds: float, threads: int = 8
) -> tuple[Counter[str], Counter[str]]:
    """How often each kind was called in so many seconds, and how often it gave another answer or an error."""
    expected = {kind: [*map(call, range(CALLS))] for kind, call in calls(encoder, pictures, ()).items()}
    metric, robust = CLIPScore(encoder), RobustCLIPScore(encoder)
    asked, end = calls(encoder, pictures, (metric, robust)), time.monotonic() + seconds

    def work(thread: int) -> list[tuple[str, int, str]]:
        generator, done = random.Random(thread), list[tuple[str, int, str]]()
        kinds = cycle(generator.sample([*asked], len(asked)))
        while time.monotonic() < end:
            kind = next(kinds)
            for _ in range(OFTEN.get(kind, 1)):
                number, problem = generator.randrange(CALLS), ""
                try:
                    if asked[kind](number) != expected[kind][number]:
                        problem = kind
                except Exception as error:
                    problem = f"{kind}: {type(error).__name__}"
                done.append((kind, number, problem))
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = [call for found in pool.map(work, range(threads)) for call in found]
    wrong = Counter(problem for _, _, problem in done if problem)
    if added := [number for kind, number, _ in done if kind == UPDATE]:
        means = {"clip_score": float(metric.compute())} | {name: float(mean) for name, mean in robust.compute().items()}
        for name, mean in means.items():
            right = sum(expected["robust_clip_score"][number][name] for number in added) / len(added)
            wrong[UPDATE] += abs(mean - right) > ROUNDING
        wrong[UPDATE] += int(metric.count) != 2 * len(added) or int(robust.count) != 2 * len(added)
    return Counter(kind for kind, _, _ in done), +wrong


def main() -> None:
    """Print the counts, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--model", default="mini")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = load_encoder(arguments.model)
    assert isinstance(encoder, OpenClipEncoder)
    pictures = [images.read(path).crop((100, 20, 100 + SIDE, 20 + SIDE)) for path in photos()]
    made, wrong = compare(encoder, pictures, arguments.seconds, arguments.threads)
    for kind, count in sorted(made.items()):
        print(f"{kind}: {count:,} calls, {wrong[kind]:,} differences")
    for problem in wrong.keys() - made.keys():
        print(f"{problem}: {wrong[problem]:,} times")
    print(f"{made.total():,} calls of {arguments.threads} threads in {arguments.seconds:g} s")
    rows = [{"kind": kind, "calls": count, "differences": wrong[kind]} for kind, count in made.most_common()]
    total = {"kind": "all", "calls": made.total(), "differences": wrong.total()}
    about = {"threads at once": arguments.threads, "seconds": arguments.seconds}
    rests_on: dict[str, Any] = {"models": [arguments.model], "detectors": [arguments.model], "settings": about}
    save("threads", "Threads at once over one encoder and its metrics", {"calls": [total, *rows]}, **rests_on)
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
