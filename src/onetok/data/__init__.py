"""From a source of images to training batches: sources, shards, preprocessing, sample order, batches, token caches."""
