"""From a source of images to training batches: sources, shards, images, order, batches, token caches."""
