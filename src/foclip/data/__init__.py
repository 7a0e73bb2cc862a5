"""Pictures, prompts and data sets: from files and rows to samples."""
