"""Training: one loop for every model, and the tasks that give it a model, objectives, optimizers and batches."""
