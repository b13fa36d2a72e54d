"""Model pages: one file per system, reading like the figure of its paper."""
