"""Records of older code, which the check of pages lets pass (`benchmarks.docs`)."""

#: Why records are not made anew yet.
BEFORE = "of before attacks had revisions, or of an earlier detector"
FORMER = "of the detectors of before headings (docs/decisions/0054-headings-in-cascades.md); hours, or an idle machine"
#: Records that rest on other weights, detectors or attacks than today's, a line each, with the reason.
OLDER = {
    "detect-mini": FORMER,
    "detection-mini": FORMER,
    "detection-mini-vit": FORMER,
    "scan-command": FORMER,
    "scan-damaged": FORMER,
    "scan-equal": FORMER,
    "scan-full": FORMER,
    "scan-gone": FORMER,
    "scan-killed": FORMER,
    "scan-memory": FORMER,
    "scan-node": FORMER,
    "scan-speed": FORMER,
    "speed-attack": BEFORE,
    "speed-attack-large": BEFORE,
    "speed-attack-vit-l": BEFORE,
    "speed-score": FORMER,
    "study-adaptive": FORMER,
    "study-cross": FORMER,
    "study-detectors": FORMER,
    "study-filter": FORMER,
    "study-long": FORMER,
    "study-pushed": FORMER,
    "study-transfer": FORMER,
    "study-visible": FORMER,
    "threads": FORMER,
    "with-hardened": FORMER,
}
