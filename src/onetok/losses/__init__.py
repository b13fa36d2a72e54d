"""Training losses as functions of tensors; each returns scalars by name, the one to minimise as `total`."""
