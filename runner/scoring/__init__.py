"""Scoring of models and runs, in the evaluation environments."""
