"""How figures of studies are printed on pages: with how many digits, as shares, or with their intervals."""

#: Formats in summaries of studies, by study ("" for all) and a pattern of the column; the last that fits counts.
STUDY_FORMATS = {
    ("", r"pictures|photos|steps"): ",",
    ("", r"score.*|lowest.*|spread.*|before|after|unseen .*|SSIM|FLIP.*|drift.*|originals|fooled"): "i.3f",
    ("", r"PSNR.*|ΔE, worst|seconds"): "i.1f",
    ("", r"budget / dB|value"): "g",
    ("", r"AUC|ΔE|contrast|z.*"): "i.2f",
    ("", r"drop.*|lost.*"): "i.1%",
    ("", r"called tampered by.*|caught by.*|.*outranks.*|best caption kept"): "i.0%",
    ("", r"score gain|rise|on the.*|undetected.*|gain of.*"): "i+.3f",
    ("", r"distance of the centroids"): ".3f",
    ("", r"Cohen's d"): "i+.2f",
    ("", r"gap closed"): ".0%",
    (
        "",
        r"called tampered|of these.*|.*with the detector.*|with a secret seed|share of the list|comes first for"
        r"|for other.*|above.*",
    ): "i.1%",
    ("", r"their score"): "i.3f",
    ("", r"pairs|mismatched|captions|clean pairs that get in"): ",",
    ("hub", "captions"): "g",
    ("filter", "pairs"): "g",
    ("imagenet", "rise"): "i+.1%",
    ("pushed", r"before|after"): ".3g",
    ("pushed", r"rise / standard deviations|least|most possible"): "i.1f",
    ("pushed", r"above of the clean"): ".0%",
    ("pushed", r"FLIP"): ".3f",
    ("detectors", r"caught at.*|fooled"): "i.0%",
    ("detectors", r"false alarms at.*"): "i.1%",
    ("detectors", r"AUC"): ".3f",
    ("detectors", r".*rise|rise of the lower|of the lower score"): "i+.3f",
    ("cross", r"(?!fooled for).*"): "i+.1f",
}
