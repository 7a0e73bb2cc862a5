"""The model card of a hardened encoder."""

from typing import Any

CARD = """# {name}

`{original}`, hardened: its image tower was fine-tuned so that a slightly changed picture keeps the
embedding that `{original}` gives the clean one (after FARE, Schlarmann et al. 2024, arXiv 2402.12336).
Captions and labels were not used. The text tower, and so the vector of every prompt, is that of
`{original}`. open_clip loads this folder with `local-dir:PATH`.

## Figures

Means over {held_out} pictures held out from training. FoCLIP fooled {fooled} of them, white-box, with
{fooled_steps} steps within {min_psnr:g} dB, for the titles of ten artworks.

| figure | `{original}` | hardened |
|---|---:|---:|
| cosine with `{original}`, clean pictures | {before[clean_cosine]:.3f} | {after[clean_cosine]:.3f} |
| cosine with `{original}` on the clean picture, after a change of {min_psnr:g} dB away from it | \
{before[perturbed_cosine]:.3f} | {after[perturbed_cosine]:.3f} |
| CLIPScore, clean | {before[score]:.3f} | {after[score]:.3f} |
| CLIPScore, fooled | {before[fooled]:.3f} | {after[fooled]:.3f} |
| **score gain** | {before[rise]:.3f} | {after[rise]:.3f} |

These figures compare the two under one moderate attack. They prove nothing about a longer attack, a
larger change, or an attack of another kind.

## How it was made

{pictures:,} pictures ({images}), {steps:,} steps of {batch_size} ({epochs:.1f} epochs), changes up to {min_psnr:g} dB
(each picture's own radius between {least:.0%} and 100 % of it), {ascent} step(s) of projected gradient ascent from a
random start, {aimed:.0%} of the pictures pushed towards a text (the captions of ImageNet's classes), the others away
from their own embedding; AdamW, peak rate {lr:g}, falling along a cosine; {precision}. Batch normalisation kept the
original's running statistics; dropout was off. `training.json` has every setting, version and figure.
"""


def write(name: str, facts: dict[str, Any]) -> str:
    """The card's text.

    Args:
        name: Name of the hardened encoder.
        facts: The content of `training.json`.
    """
    settings = facts["settings"]
    seen = settings["steps"] * settings["batch_size"]
    values = {
        **settings,
        **facts,
        "name": name,
        "images": ", ".join(facts["images"]),
        "epochs": seen / facts["pictures"],
    }
    return CARD.format(**values)
