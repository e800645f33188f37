"""Checkpoint in, scores out: every metric computed once, the same way for every recipe, against the same anchor."""
