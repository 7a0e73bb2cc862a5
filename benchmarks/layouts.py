"""How tables look on pages: which figures, in which columns, with how many digits."""

from benchmarks import detector_layouts
from benchmarks.layout import Layout, Printed

#: Other people's detectors, in the study `detectors`.
RIVALS = ("gray", "squeezing", "JPEG", "padding", "direction", "two encoders", "guessed caption")
UNNOTICED = "undetected gain, the combined detector"
RANDOMISED = f"{UNNOTICED} with random probes, worst of five draws"
#: Blocks with what commands print.
PRINTED = {
    "printed-score": Printed("foclip score foclip-demo/*.png --prompts artworks --hardened mini-robust", 3),
    "printed-fool": Printed('foclip fool cat.png --prompt "a photo of a dog." --out fooled'),
    "printed-detect": Printed("foclip detect foclip-demo/*.png photos/ --prompts artworks", 7),
    "printed-scan": Printed("foclip scan photos foclip-demo --out scanned"),
    "printed-harden": Printed("foclip harden --images pictures --steps 50 --out hardened"),
}
#: Columns of the benchmarks of speed; the ratios of rivals to our steps stand behind the others.
STEP = {
    **{"model": "{model}", "picture": "{picture}", "batch": "{batch}", "floor / ms": "{floor / ms:i.1f}"},
    "step / floor": "{step / floor:i.2f}",
    "besides, per picture / s": "{besides, per picture / s:.3f}",
    **{f"{name} step / floor": f"{{{name} step / floor:i.2f}}" for name in ("quick", "compiled")},
    **{
        f"{rival} / {name}": f"{{{rival} / {name}:.2f}}"
        for name in ("step", "quick step")
        for rival in ("CLIPMasterPrints", "torchattacks", "ART")
    },
    "torchattacks / compiled step": "{torchattacks / compiled step:.2f}",
}
QUALITY = {
    **{"megapixels": "{megapixels}", "attack": "{attack}", "steps": "{steps:,}", "score": "{score:.3f}"},
    "share of that after 10,000 steps": "{of the very long one's:.3f}",
    **{"seconds per photo": "{seconds per photo:.3f}", "times ours": "{times ours:.1f}"},
}
LOOPS = {
    **{"megapixels": "{megapixels}", "photo": "{photo}", "steps": "{steps:,}", "exact loop": "{exact loop:.3f}"},
    **{"model resolution": "{model resolution:.3f}", "% higher": "{% higher:.3f}", "lowest PSNR": "{lowest PSNR:.3f}"},
}
SCORE = {
    **{"model": "{model}", "from": "{from}", "what": "{what}", "per second": "{per second:.1f}"},
    "/ bare": "{/ bare:i.2f}",
    "share of the slower part's rate": "{share of the slower one's rate:.2f}",
}
START = {"process": "{process}", "seconds": "{seconds:i.2f}", "/ import torch": "{/ import torch:i.2f}"}
GROWTH = {"what grows": "{what}", "number": "{number:,}", "ms per step and picture": "{ms per step and picture:.1f}"}
MEMORY = {
    **{"picture": "{picture}", "MB more than for a small picture": "{MB above a small one:.0f}"},
    "float32 copies": "{float32 copies:.1f}",
}
SEEN = {
    **{"model": "{model}", "photographs": "{photographs}"},
    **{"1 − SSIM": "{1 − ssim:.3f}", "FLIP": "{flip:.3f}", "FLIP's worst places": "{flip99:.3f}"},
}
UNSEEN = {
    **{"model": "{model}", "photos": "{photos}", "score before": "{before:.3f}", "after": "{after:.3f}"},
    "prompts that rose": "{prompts up:,} of {prompts:,}",
    **{"JOD, mean": "{JOD, mean:.3f}", "least": "{JOD, least:.3f}"},
    "from half as far, mean": "{JOD from half as far, mean:.3f}",
    "from half as far, least": "{JOD from half as far, least:.3f}",
    "CIEDE2000's 99th percentile, most": "{CIEDE2000's 99th percentile, most:.2f}",
}
COST = {
    "picture": "{picture}",
    **{f"{name} / s": f"{{{name} / s:.1f}}" for name in ("default", "discreet", "35 dB")},
    **{f"{name} / 35 dB": f"{{{name} / 35 dB:.2f}}" for name in ("default", "discreet")},
    "float32 copies more than the first row": "{float32 copies:.1f}",
}
#: By name, every table of a page that is not of a study.
TABLES: dict[str, Layout] = {
    **detector_layouts.TABLES,
    "robust-rises": Layout(
        ["robust-mini/attacked", "robust-mini-robust/attacked"],
        {"mean rise of CLIPScore": "`{encoder}`, {prompts}"}
        | {f"{db} dB": f"{{{db} rise:.2f}}" for db in (35, 40, 45)},
        by=("prompts", "encoder"),
        over=("budget / dB",),
    ),
    "robust-crossed": Layout(
        ["robust-mini-robust/crossed"],
        {"own caption, fooled on `mini`": "score on `{scored by}`"}
        | {f"{db} dB": f"{{{db} before:.3f}} → {{{db} after:.3f}}" for db in (35, 40, 45)},
        by=("scored by",),
        over=("budget / dB",),
    ),
    "blurring": Layout(
        ["blurring/rows"],
        {"encoder": "`{encoder}`", "blur / pixels of 96": "{blur:g}", "rise": "{rise:.2f}"}
        | {"share of `mini`'s score": "{share:.2f}", "rank correlation with `mini`": "{ranks:.2f}"}
        | {"rise of the lower score": "{rise of the lower:.2f}", "its share": "{share of the lower:.2f}"}
        | {"its rank correlation": "{ranks of the lower:.2f}"},
    ),
    "robust-both": Layout(
        ["study-robust/summary"],
        {"score": "{attacked}", "clean → fooled for it": "{before:.3f} → {after:.3f}", "rise": "{score gain:.3f}"},
        where={"part": ["curve"], "for": ["best caption"], "budget / dB": [35]},
    ),
    "caught": Layout(
        ["detection-mini/scenarios", "detection-mini-vit/scenarios"],
        {"own caption": "{scenario}"}
        | {
            heading.format(model): template.replace("MODEL", f"detection-{model}")
            for model in ("mini", "mini-vit")
            for heading, template in {
                "rise on `{}`": "{MODEL rise:.2f}",
                "caught on `{}`": "{MODEL combined:.0%} / {MODEL no prompt:.0%}",
            }.items()
        },
        where={
            "file": ["as it is"],
            "scenario": [*(f"own caption, {db} dB" for db in (35, 40, 45, 50)), "own caption, +0.2 at 40 dB"],
        },
        by=("scenario",),
        over=("record",),
    ),
    "speed-attack": Layout([f"speed-attack{part}/rows" for part in ("", "-vit-l")], STEP),
    "speed-quality": Layout(["speed-quality/rows"], QUALITY),
    "speed-loops": Layout(["speed-loops/rows"], LOOPS),
    "speed-score": Layout(["speed-score/rows"], SCORE),
    "speed-start": Layout(["speed-start/rows"], START),
    "speed-growth": Layout(["speed-growth/rows"], GROWTH),
    "speed-memory": Layout(["speed-memory/rows"], MEMORY),
    "seen": Layout(["seen-mini-vit/photos", "seen-mini/photos"], SEEN),
    "unseen": Layout(["unseen/rows"], UNSEEN),
    "unseen-cost": Layout(["unseen/cost"], COST),
    "pushed": Layout(
        ["study-pushed/summary"],
        {
            **{"`--score`": "`{score}`", "clean photographs": "{clean photographs}"},
            **{"the 16 before": "{40 before:.3g}", "after, 40 dB": "{40 after:.3g}"},
            "rise, 40 dB": "{40 rise / standard deviations:i.1f}",
            **{"least of the 16": "{40 least:.1f}", "most possible": "{40 most possible:.1f}"},
            **{f"rise, {db} dB": f"{{{db} rise / standard deviations:.1f}}" for db in (30, 35, 45, 50)},
        },
        by=("score", "clean photographs"),
        over=("budget / dB",),
    ),
    "cross": Layout(
        ["study-cross/summary"],
        {"fooled for": "{fooled for}"}
        | {
            each: f"{{{each}:+.1f}}"
            for each in ("clipscore", "clip-iqa", "aesthetic", "clipscore over mini-vit", "all together")
        },
    ),
    "detectors": Layout(
        ["study-detectors/summary"],
        {"attack": "{attack}, {for}, {budget / dB} dB", "file": "{file}", "pictures": "{ours pictures:,}"}
        | {"rise": "{ours rise:+.3f}"}
        | {each: f"{{{each} caught at 2%:.0%}}" for each in (*RIVALS, "ours")},
        where={
            "attackers know": ["nothing"],
            "attack": ["FoCLIP", "MI-FGSM", "Auto-PGD", "CMA-ES", "universal"],
            "for": ["own caption", "ten artworks"],
        },
        by=("attack", "for", "budget / dB", "file"),
        over=("detector",),
    ),
    "detectors-known": Layout(
        ["study-detectors/summary"],
        {"attackers know": "{attackers know}"}
        | {
            "undetected rise at 45 dB": "{45 undetected rise:i.3f}",
            "of the lower score": "{45 of the lower score:i.3f}",
        },
        where={
            "budget / dB": [45],
            "attackers know": [*RIVALS, "the lower of two encoders", "ours", "the policy"],
            "attackers know it": ["yes"],
        },
        by=("attackers know",),
        over=("budget / dB",),
    ),
    "untrained": Layout(
        ["untrained/rows"],
        {
            **{"`--score`": "`{score}`", "clean photographs": "{clean mean:.3g} ± {clean deviation:.2g}"},
            **{"the 16 before": "{before:.3g}", "after, 40 dB": "{after:.3g}"},
            **{"rise, 40 dB": "{rise / standard deviations:.1f}", "least of the 16": "{least:.1f}"},
            "most possible": "{most possible:.1f}",
        },
    ),
    "several": Layout(
        ["several/rows"],
        {
            **{"scores": "`{scores}`", "towers": "{towers}", "all scores / s": "{all scores / s:.2f}"},
            **{"one score each / s": "{one score each / s:.2f}", "ratio": "{ratio:.2f}"},
        },
    ),
    "scan": Layout(
        [
            *("scan-killed/val", "scan-node/val", "scan-gone/tars", "scan-full/val", "scan-damaged/val"),
            *("scan-equal/photos", "scan-memory/val", "scan-command/0"),
        ],
        {"command, after `python -m benchmarks.scan`": "`{command}`", "result": "{result}"},
    ),
    "scan-speed": Layout(
        ["scan-speed/val"],
        {
            **{"way": "{way}", "pictures / s": "{pictures / s:.0f}", "ms of a core a picture": "{core / ms:.2f}"},
            "speed of a scan ÷ this, by the clock": "{scan by the clock:.2f}",
            "by the seconds of all cores": "{scan by cores:.2f}",
        },
    ),
    "filter": Layout(
        ["study-filter/summary"],
        {
            "the mismatched are boosted": "{boosted}",
            "of them in the kept list": "{of these get in:.1%}",
            "with the detector": "{with the detector:.1%}",
            "with a secret seed": "{with a secret seed:.1%}",
            "detector and lowest score": "{with the detector and the lowest score:.1%}",
            "share of the list": "{share of the list:.1%}",
            "share with the detector": "{of the list with the detector:.1%}",
            "clean pairs that get in": "{clean pairs that get in:,}",
            "of these lost in the three ways": "{of these lost with the detector:.1%}, "
            "{of these lost with a secret seed:.1%}, {of these lost with the detector and the lowest score:.1%}",
        },
    ),
    "adaptive": Layout(
        ["study-adaptive/summary"],
        {"attackers": "{attacker}"}
        | {
            heading: template.format(db)
            for db in (45, 35)
            for heading, template in {
                f"{db} dB": "{{{0} score gain:.2f}} ({{{0} " + UNNOTICED + ":.2f}})",
                f"{db} dB, randomised probes": "({{{0} " + RANDOMISED + ":.2f}})",
            }.items()
        },
        where={"budget / dB": (45, 35)},
        by=("attacker",),
        over=("budget / dB",),
    ),
}
