"""Metrics as three pure functions each: features → statistics → number. Features come from one pass."""
