"""The one schema of a verdict: what JSON, CSV, Parquet and HTML say of a picture."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Verdict:
    """What a detector says of a measured picture.

    Attributes:
        verdict: "tampered", "clean", or "undecidable" for a picture without colour in which nothing else is suspicious:
            no such picture was calibrated on, and the paper's rule cannot tell anything of it.
        p_value: Of the statistic that decided; None if undecidable.
        statistic: Its value; None where there is none.
        decided_by: "combined" or "rule", and "without prompts" where there were none.
        probe: The probe that told most; None if none was taken.
    """

    verdict: str
    p_value: float | None
    statistic: float | None
    decided_by: str
    probe: str | None = None


@dataclass(frozen=True)
class Detection:
    """The verdict on one picture, and what it rests on. Every output has these names.

    Attributes:
        image: Its file, or its place among the pictures.
        tampered: Whether it was called tampered.
        verdict: "tampered", "clean", or "undecidable" for a picture without colour.
        score: Mean figure over the prompts; None without prompts.
        gray_score: That of the picture in gray; None if the verdict did not take the probe "gray".
        probe_score: That under `probe`, or with the hardened encoder; None without prompts or probe.
        drop: Score lost under `probe`, relatively (`foclip.detection.features`); None without prompts or probe.
        drift: How far the embedding moves under `probe`; None if no probe was taken.
        p_value: Of the statistic that decided; None if undecidable.
        decided_by: "combined" or "rule", and "without prompts" where there were none.
        probe: The probe that told most of those taken, "gray" for the rule. None if none was taken: a picture whose
            score is too low to have gained anything is not probed.
        probes: All probes taken, in their order.
        zero_shot_caption: Without prompts, the caption that the picture fits best; it stood in for them.
        detector: Name of the detector.
        prompts: Its prompts; empty without.
        model: Name of the encoder.
        seed: Seed of the probes' random amounts; None for the usual amounts.
    """

    image: str
    tampered: bool
    verdict: str
    score: float | None
    gray_score: float | None
    probe_score: float | None
    drop: float | None
    drift: float | None
    p_value: float | None
    decided_by: str
    probe: str | None
    probes: list[str]
    zero_shot_caption: str | None
    detector: str
    prompts: list[str]
    model: str
    seed: int | None = None


#: Names of the fields of a verdict, in their order.
FIELDS = tuple(field.name for field in fields(Detection))
