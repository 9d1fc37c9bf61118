"""`recipe list`: the catalogue."""

from __future__ import annotations

import argparse

EXAMPLES = ("recipe list",)


def arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(_arguments: argparse.Namespace) -> None:
    from recipes import catalogue, load
    from runner.runs.show import table

    files = catalogue()
    recipes = {name: load(path).recipe for name, path in files.items()}
    rows = [
        (name, r.backend, r.method, r.tuning.type, r.model.path, r.description, str(files[name]))
        for name, r in recipes.items()
    ]
    print(table([("name", "backend", "method", "tuning", "model", "description", "file"), *rows]))
