"""The public Python API, and the commands `onetok generate` and `onetok reconstruct` on top of it."""
