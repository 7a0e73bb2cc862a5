"""The hardened twin that a detector looks through."""

from functools import lru_cache

from foclip.detection.detector import Detector
from foclip.encoders import Encoder, embedded, load
from foclip.errors import UsageError
from foclip.scores import EncoderScore


def twin_score(score: EncoderScore, twin: str | Encoder | None = None) -> EncoderScore | None:
    """The same score over the encoder's hardened twin.

    Args:
        score: A score.
        twin: The twin, or its name; None for the one that comes with the encoder.

    Returns:
        None if none is given and none comes with it.
    """
    found = twin
    if found is None:
        name = embedded.TWINS.get(score.encoder.name)
        if name is None or score.encoder.fingerprint != _loaded(score.encoder.name, "cpu").fingerprint:
            return None
        found = name
    return score.over(_loaded(found, str(score.device)) if isinstance(found, str) else found)


def twin_of(detector: Detector, score: EncoderScore, twin: str | Encoder | None = None) -> EncoderScore | None:
    """What a detector looks through: its twin, if it has one.

    A detector file may come from anywhere, so it cannot make us load whatever it names: an embedded twin is found by
    its name, any other has to be given.

    Raises:
        UsageError: The detector needs a twin that is not given, or another one.
    """
    if detector.twin is None:
        return None
    if twin is None and detector.twin[0] not in embedded.names():
        raise UsageError(f"twin: detector {detector.name} looks through the twin {detector.twin[0]!r}; give it")
    found = score.over(_loaded(twin or detector.twin[0], str(score.device)) if not isinstance(twin, Encoder) else twin)
    detector.check(score.encoder, found.encoder)
    return found


@lru_cache(maxsize=4)
def _loaded(name: str, device: str) -> Encoder:
    return load(name, device)
