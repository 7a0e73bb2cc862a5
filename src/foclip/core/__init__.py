"""Streams between models and disk: samples in, results and failures out. No files, no globals."""
