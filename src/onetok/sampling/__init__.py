"""Sampling: schedules, guidance, per-image randomness, and the loops that masked generators share."""
