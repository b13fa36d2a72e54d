"""Sampling: mask schedules, guidance, per-image randomness, and the sampling loop of masked generators."""
