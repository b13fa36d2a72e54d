"""TiTok, in one stage and in two (arXiv 2406.07550)."""
