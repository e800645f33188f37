"""Torch and tokens: decoders, their weights, log-probs and generation. Knows nothing of preferences."""
