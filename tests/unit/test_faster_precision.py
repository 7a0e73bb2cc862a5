import time

import pytest
import torch
from torch import Tensor

from foclip.models import precision
from foclip.models.precision import FASTER, faster_precision


def timed(seconds: dict[torch.dtype | None, float]) -> tuple[str, float, list[torch.dtype | None]]:
    """What is chosen where a pass takes so many seconds in each precision; and the passes made."""
    made: list[torch.dtype | None] = []

    def run(dtype: torch.dtype | None) -> Tensor:
        made.append(dtype)
        time.sleep(seconds[dtype])
        return torch.zeros(2, 2)

    chosen, ratio = faster_precision(run)
    return chosen, ratio, made


def test_bfloat16_is_chosen_where_it_is_faster() -> None:
    chosen, ratio, made = timed({None: 0.04, torch.bfloat16: 0.02})
    assert chosen == "bfloat16"
    assert ratio > FASTER
    assert made.count(None) == made.count(torch.bfloat16) == precision.PASSES + 1


def test_float32_is_chosen_where_bfloat16_is_slower() -> None:
    chosen, ratio, _ = timed({None: 0.01, torch.bfloat16: 0.02})
    assert chosen == "float32"
    assert ratio < 1


def test_a_slow_pass_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "SLOW", 0.1)
    chosen, _, made = timed({None: 0.001, torch.bfloat16: 0.2})
    assert chosen == "float32"
    assert made.count(torch.bfloat16) == 1
