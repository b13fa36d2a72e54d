"""MaskGen, text to image on discrete and continuous tokens (arXiv 2501.07730)."""
