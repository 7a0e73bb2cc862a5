"""The hardened encoders that are among a detector's probes."""

from collections.abc import Sequence

from foclip.detection.detector import Detector
from foclip.detection.probes import HardenedScores
from foclip.errors import UsageError
from foclip.models import Encoder, embedded
from foclip.models.registry import shared_encoder
from foclip.models.scorer import EmbeddingScorer


def hardened_scores(scorer: EmbeddingScorer, hardened: Sequence[str | Encoder] = ()) -> HardenedScores:
    """The same score over hardened versions of its encoder.

    Args:
        scorer: A score.
        hardened: The hardened encoders, or their names. If there are none, those that come with the encoder, if any.
    """
    found = [_encoder(each, scorer) for each in hardened]
    own = embedded.HARDENED.get(scorer.encoder.name, ())
    if not hardened and own and scorer.encoder.fingerprint == shared_encoder(scorer.encoder.name, "cpu").fingerprint:
        found = [_encoder(name, scorer) for name in own]
    return {encoder.name: scorer.with_encoder(encoder) for encoder in found}


def hardened_of(detector: Detector, scorer: EmbeddingScorer, hardened: Sequence[str | Encoder] = ()) -> HardenedScores:
    """The same score over a detector's hardened encoders, by the names that the detector has for them.

    A detector file may come from anywhere, so it must not make us load whatever it names: an embedded encoder is found
    by its name, any other one has to be given.

    Args:
        detector: A detector of the scorer's encoder.
        scorer: The score.
        hardened: Hardened encoders that are not embedded, or their names.

    Raises:
        UsageError: The detector needs a hardened encoder that is not given, or has other weights.
    """
    detector.check(scorer.encoder)
    given = [_encoder(each, scorer) for each in hardened]
    found = {}
    for name, weights in detector.hardened.items():
        own = [_encoder(name, scorer)] if name in embedded.names() else []
        fitting = [encoder for encoder in (*given, *own) if encoder.fingerprint == weights]
        if not fitting:
            others = ", ".join(f"{encoder.name} ({encoder.fingerprint[:12]}…)" for encoder in (*given, *own))
            raise UsageError(
                f"hardened: detector {detector.name} needs the hardened encoder {name!r} (weights {weights[:12]}…); "
                f"give it{f', and not {others}' if others else ''}"
            )
        found[name] = scorer.with_encoder(fitting[0])
    return found


def _encoder(encoder: str | Encoder, scorer: EmbeddingScorer) -> Encoder:
    return shared_encoder(encoder, str(scorer.device)) if isinstance(encoder, str) else encoder
