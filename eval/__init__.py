"""Scores models: suites say what is asked, engines who answers, metrics how it is scored, report what is shown.

Nothing here imports torch or transformers by itself, so that scores and reports can be made in any environment.
"""
