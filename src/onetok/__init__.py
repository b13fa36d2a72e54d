"""onetok: an image as a short 1D sequence of tokens. Four papers, from params files to their tables."""
