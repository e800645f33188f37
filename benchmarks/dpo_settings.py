"""TRL's settings that are tried: weights and arithmetic in float32, arithmetic in bfloat16, or both in bfloat16."""

SETTINGS = ("float32", "autocast", "bfloat16")
