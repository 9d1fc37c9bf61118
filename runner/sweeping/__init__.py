"""Searches over a recipe's values: each trial is a run, the best a recipe."""
