"""Results and failures of a stream, and progress that is printed."""

import pytest

from foclip.outcome import Failure, Outcome, print_progress


def test_a_stream_becomes_results_and_failures() -> None:
    done: list[float] = []
    found = Outcome.of(iter([1, Failure("b", "broken"), 3]), [Failure("a", "no caption")], done.append)
    assert found == Outcome([1, 3], [Failure("a", "no caption"), Failure("b", "broken")])
    assert (len(found), list(found), done) == (2, [1, 3], [1, 2, 3])


def test_progress_is_printed_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 5.0, 6.0, 7.5])
    monkeypatch.setattr("foclip.outcome.time.monotonic", lambda: next(clock))
    advance = print_progress("fooling", 4)
    for done in (1, 2, 3):
        advance(done, "score 0.9")
    advance(4)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["fooling: 0 of 4", "fooling: 2 of 4, 5 s, score 0.9", "fooling: 4 of 4, 8 s"]
