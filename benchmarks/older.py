"""Records of older code, which the check of pages lets pass (`benchmarks.docs`)."""

#: Why records are not made anew yet.
BEFORE = "of before attacks had revisions, or of an earlier detector"
#: Records that rest on other weights, detectors or attacks than today's, a line each, with the reason.
OLDER = {
    "speed-attack": BEFORE,
    "speed-attack-large": BEFORE,
    "speed-attack-vit-l": BEFORE,
}
