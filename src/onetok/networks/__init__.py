"""Auxiliary networks: feature extractors, perceptual networks, text encoders, the discriminator, a speed baseline."""
