"""Records of older code, which the check of pages lets pass (`benchmarks.docs`)."""

#: Why records are not made anew yet.
FORMER = "of the detectors of before headings (docs/decisions/0054-headings-in-cascades.md); hours, or an idle machine"
#: Records that rest on other weights, detectors or attacks than today's, a line each, with the reason.
OLDER = {"scan-speed": FORMER}
