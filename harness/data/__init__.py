"""Preference pairs in, checked and split."""
