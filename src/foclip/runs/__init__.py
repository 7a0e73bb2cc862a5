"""Runs on disk: folders that resume, the machines that work, what names a run."""
