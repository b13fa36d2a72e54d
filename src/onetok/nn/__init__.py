"""Layers, quantizers, linear kernels and model interfaces that several systems share."""
