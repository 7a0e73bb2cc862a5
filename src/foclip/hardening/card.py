"""The model card of a hardened encoder."""

from typing import Any

CARD = """# {name}

`{original}` made hard to fool: its image tower was fine-tuned so that a picture that was changed a
little keeps the embedding which `{original}` gives the clean one (after FARE, Schlarmann et al. 2024,
arXiv 2402.12336). No captions and no labels were used; the text tower, and so every prompt's
vector, is `{original}`'s. open_clip loads this folder with `local-dir:PATH`.

## Figures

Means over {held_out} pictures held out from training; fooling is white-box, by FoCLIP with
{fooled_steps} steps within {min_psnr:g} dB, for ten artworks' names, on {fooled} of them.

| figure | `{original}` | this twin |
|---|---:|---:|
| cosine with `{original}`, clean pictures | {before[clean_cosine]:.3f} | {after[clean_cosine]:.3f} |
| cosine with `{original}` on the clean picture, after a change of {min_psnr:g} dB away from it | \
{before[perturbed_cosine]:.3f} | {after[perturbed_cosine]:.3f} |
| CLIPScore, clean | {before[score]:.3f} | {after[score]:.3f} |
| CLIPScore, fooled | {before[fooled]:.3f} | {after[fooled]:.3f} |
| **rise** | {before[rise]:.3f} | {after[rise]:.3f} |

These figures compare the two under one moderate attack. They are no proof against a longer one, a
larger change, or one of another kind.

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
        name: What the twin is called.
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
