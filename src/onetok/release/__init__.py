"""Released weights: download and upload, files of tensors, and renaming of released state dicts."""
