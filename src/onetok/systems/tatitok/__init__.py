"""TA-TiTok, whose decoder reads the caption (arXiv 2501.07730)."""
