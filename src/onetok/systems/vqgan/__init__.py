"""The MaskGIT-VQGAN, a 2D tokenizer (arXiv 2202.04200), TiTok's proxy."""
