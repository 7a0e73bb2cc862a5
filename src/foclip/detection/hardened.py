"""The hardened twins that a detector looks through."""

from collections.abc import Sequence
from functools import lru_cache

from foclip.detection.detector import Detector
from foclip.detection.probes import HardenedScores
from foclip.errors import UsageError
from foclip.models import Encoder, embedded, load_encoder
from foclip.models.scores import EmbeddingScore


def hardened_scores(score: EmbeddingScore, twins: Sequence[str | Encoder] = ()) -> HardenedScores:
    """The same score over hardened twins of its encoder.

    Args:
        score: A score.
        twins: The twins, or their names; those that come with the encoder, if any, where none is given.
    """
    found = [_loaded(twin, str(score.device)) if isinstance(twin, str) else twin for twin in twins]
    own = embedded.HARDENED.get(score.encoder.name, ())
    if not twins and own and score.encoder.fingerprint == _loaded(score.encoder.name, "cpu").fingerprint:
        found = [_loaded(name, str(score.device)) for name in own]
    return {twin.name: score.over(twin) for twin in found}


def hardened_of(detector: Detector, score: EmbeddingScore, twins: Sequence[str | Encoder] = ()) -> HardenedScores:
    """What a detector looks through, by the names that it has for them.

    A detector file may come from anywhere, so it cannot make us load whatever it names: an embedded twin is found by
    its name, any other has to be given.

    Args:
        detector: A detector of the score's encoder.
        score: The score.
        twins: HardenedScores that are not embedded, or their names.

    Raises:
        UsageError: The detector needs a twin that is not given, or has other weights.
    """
    detector.check(score.encoder)
    given = [_loaded(twin, str(score.device)) if isinstance(twin, str) else twin for twin in twins]
    found = {}
    for name, weights in detector.twins.items():
        own = [_loaded(name, str(score.device))] if name in embedded.names() else []
        fitting = [twin for twin in (*given, *own) if twin.fingerprint == weights]
        if not fitting:
            others = ", ".join(f"{twin.name} ({twin.fingerprint[:12]}…)" for twin in (*given, *own))
            raise UsageError(
                f"twin: detector {detector.name} looks through the twin {name!r} (weights {weights[:12]}…); give it"
                + (f", and not {others}" if others else "")
            )
        found[name] = score.over(fitting[0])
    return found


@lru_cache(maxsize=6)
def _loaded(name: str, device: str) -> Encoder:
    return load_encoder(name, device)
