"""Metrics as pure functions: features → statistics → number. One pass over the images gives the features of all."""
