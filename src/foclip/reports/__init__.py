"""Reports: HTML on the ground floor, and what fooling and calibration show with it."""
