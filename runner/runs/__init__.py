"""Runs on disk: the run directory, its logs, and what is done with a finished one."""
