"""Speed and quality, measured: `python -m benchmarks` for speed, and files that print a table each."""
