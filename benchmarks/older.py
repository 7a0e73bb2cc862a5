"""Records of older code, which the check of pages lets pass (`benchmarks.docs`)."""

#: Records that rest on other weights, detectors or attacks than today's, a line each, with the reason why they are not
#: made anew yet. A page says so below their figures.
OLDER: dict[str, str] = {}
