"""Asks, trains and keeps: recipes, budgets, data and the runs themselves."""

__version__ = "0.1.0"
