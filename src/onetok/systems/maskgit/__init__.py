"""MaskGIT on 1D tokens, as a ViT and as a U-ViT (arXiv 2202.04200, 2406.07550)."""
