"""The threat model: attack scenarios a detector is made for, and states that pictures come in (docs/threat-model.md).

A scenario says what attackers want, how much they change for it (dB), how far they go, and with which attack.
Afterwards the file may change again. Clean pictures, too, come saved again, small, or in odd colours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from foclip.attacks import CMAES, MIFGSM, PGD, AttackPlan, FoCLIP, View, make_plan, objective
from foclip.detection.transformations import saved
from foclip.perceptual.budget import Budget

#: What is to score high: the picture's own caption, that of another picture, or the prompts it is scored with.
Target = Literal["own", "other", "given"]
#: An attack that raised the score by less, in units of the score's floor, gained nothing. For CLIPScore it is 0.05.
LEAST_RISE = 0.2
#: The scenarios as blatant as the paper's, which its rule is for.
BLATANT = ("given prompts, 35 dB", "own caption, 35 dB")
#: Queries of a black box per step of a gradient attack.
QUERIES = 6

Change = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Scenario:
    """One kind of attack on a score, named in reports by its prompts, its strength and its method."""

    name: str
    target: Target
    attack: AttackPlan


def attack_scenarios(
    steps: int = 60,  # updates per picture of every gradient attack
    temperature: float = 0.01,  # that of the score
    floor: float = 0.25,  # the score's figure for "no match", in units of which partial rises are given
    probes: tuple[View, ...] = (),  # the detector's probes; with them, in some scenarios the attackers know them
    seed: int = 0,  # seeds the attacks
) -> list[Scenario]:
    """The scenarios that a detector is calibrated on: faint ones for the own caption first, since these pay."""
    foclip = make_plan(FoCLIP, objective=objective(temperature=temperature), steps=steps, seed=seed)

    def at(min_psnr: float, rise: float | None = None) -> AttackPlan:
        return foclip.replace(budgets=Budget("psnr", min_psnr), rise=None if rise is None else rise * floor)

    found = [
        Scenario("own caption, 40 dB", "own", at(40.0)),
        Scenario("given prompts, 35 dB", "given", at(35.0)),
        Scenario("own caption, 45 dB", "own", at(45.0)),
        Scenario("own caption, 35 dB", "own", at(35.0)),
        Scenario("own caption, 50 dB", "own", at(50.0)),
        Scenario("given prompts, 40 dB", "given", at(40.0)),
        Scenario("own caption, 40 dB, up by 0.8", "own", at(40.0, 0.8)),
        Scenario("own caption, 48 dB", "own", at(48.0)),
        Scenario("given prompts, 45 dB", "given", at(45.0)),
        Scenario("own caption, 45 dB, up by 0.4", "own", at(45.0, 0.4)),
        Scenario("own caption, 52 dB", "own", at(52.0)),
        Scenario("other caption, 42 dB", "other", at(42.0)),
        Scenario("given prompts, MI-FGSM, 35 dB", "given", make_plan(MIFGSM, budgets="psnr:35", seed=seed)),
        Scenario("own caption, MI-FGSM, 38 dB", "own", make_plan(MIFGSM, budgets="psnr:38", seed=seed)),
        Scenario("given prompts, PGD, 38 dB", "given", make_plan(PGD, steps=steps, budgets="psnr:38", seed=seed)),
    ]
    if probes:
        for db in (35.0, 42.0):
            found.append(Scenario(f"own caption, {db:g} dB, knows the probes", "own", at(db).replace(views=probes)))
    if find_spec("cma"):
        # Few unknowns: with these, a few hundred queries go furthest, and the search itself costs little.
        black_box = make_plan(CMAES, steps=QUERIES * steps, budgets="psnr:35", block=8, seed=seed)
        found.append(Scenario("given prompts, CMA-ES, 35 dB", "given", black_box))
    return found


def _halved(picture: Image.Image) -> Image.Image:
    return picture.resize([max(1, side // 2) for side in picture.size], Image.Resampling.LANCZOS)


def cropped(percent: int) -> Change:
    """Keeps so much of both sides, around the middle."""

    def change(picture: Image.Image) -> Image.Image:
        dx, dy = (round(side * (100 - percent) / 200) for side in picture.size)
        return picture.crop((dx, dy, picture.width - dx, picture.height - dy))

    return change


def _thumbnail(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((48, 48))
    return small


def _noise(picture: Image.Image) -> Image.Image:
    """Gaussian noise with a standard deviation of 10 levels, the same for every picture of a size."""
    noise = np.random.default_rng(0).normal(0, 10, (picture.height, picture.width, 3))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).round().astype(np.uint8))


#: What ends a part of most scenarios, and makes the rest probe different from one in a file that was saved again.
CROPPED = "cropped to 95 %"
#: What becomes of a fooled file afterwards: saved again, shrunk as on a web page, or cropped.
AFTERWARDS: Mapping[str, Change] = {
    **{f"JPEG {quality}": saved("JPEG", quality) for quality in (95, 85, 75, 60)},
    "WebP 80": saved("WEBP", 80),
    "half the size": _halved,
    CROPPED: cropped(95),
}

#: States that clean pictures come in.
CONDITIONS: Mapping[str, Change] = {
    "JPEG 85": saved("JPEG", 85),
    "JPEG 20": saved("JPEG", 20),
    "48-pixel thumbnail": _thumbnail,
    "saturation × 0.3": lambda picture: ImageEnhance.Color(picture).enhance(0.3),
    "saturation × 2": lambda picture: ImageEnhance.Color(picture).enhance(2),
    "noise": _noise,
    "mirrored": ImageOps.mirror,
    "turned by 180°": lambda picture: picture.rotate(180),
}
