"""Training: one loop, and the tasks that tell it what to minimise."""
