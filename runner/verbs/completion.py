"""`recipe completion`: a script by which a shell completes verbs, options, recipes, runs and files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from runner.verbs import VERBS
from runner.verbs.parser import parser_with

EXAMPLES = (
    "recipe completion bash > ~/.local/share/bash-completion/completions/recipe",
    "recipe completion zsh > ~/.zfunc/_recipe    # with fpath+=(~/.zfunc) before compinit",
)
# What stands for an argument in the help, and what completes it.
KINDS = {
    "RECIPE": "_recipe_recipes",
    "FILE|RECIPE": "_recipe_recipes",
    "RUN": "_recipe_runs",
    "RUN[:STEP]": "_recipe_runs",
    "RUN[:STEP]|ADAPTER": "_recipe_runs",
    "CANDIDATE": "_recipe_runs",
    "MODEL": "_recipe_runs",
    "OTHER": "_recipe_runs",
    "RUN|base": "_recipe_runs",
}
BASH = """
_recipe_recipes() {{
  compgen -W "{names}" -- "$1"
  compgen -f -X '!*.y*ml' -- "$1"
  compgen -d -S / -- "$1"
}}
_recipe_runs() {{
  [ -d runs ] && (cd runs && compgen -d -- "$1")
  compgen -d -S / -- "$1"
}}
"""
ZSH = """
_recipe_recipes() {{ _alternative "names:recipe:({names})" "files:file:_files -g '*.y*ml'" }}
_recipe_runs() {{ _alternative "runs:run:_files -W runs -/" "files:directory:_files -/" }}
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(arguments: argparse.Namespace) -> None:
    import shtab

    from recipes import catalogue
    from recipes.made import made

    parser = parser_with(VERBS)
    for action in _actions(parser):
        if action.metavar in KINDS:
            kind = KINDS[str(action.metavar)]
            action.complete = {"bash": kind, "zsh": kind}  # type: ignore[attr-defined]
        elif action.type is not None and getattr(action.type, "__name__", "") in ("path", "Path"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    names = " ".join(sorted({*catalogue(), *made()}))
    preamble = {"bash": BASH, "zsh": ZSH}[arguments.shell].format(names=names)
    print(shtab.complete(parser, shell=arguments.shell, root_prefix="recipe", preamble=preamble))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for own in action.choices.values():
                yield from _actions(own)
        else:
            yield action
