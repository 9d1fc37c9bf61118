"""Looks at a user's reward function without running it, so that `recipe validate` can say what is wrong."""

from __future__ import annotations

import ast
from pathlib import Path

from recipes.errors import did_you_mean

SIGNATURE = "def {}(reply, reference, row) -> float"


def function_problem(path: str, root: Path) -> str:
    """What is wrong with `file.py:function` (the file relative to `root`), or an empty string."""
    name, colon, function = path.rpartition(":")
    if not colon or not name.endswith(".py") or not function.isidentifier():
        return f"{path!r} is not allowed; allowed: file.py:function, such as rewards.py:polite"
    file = (root / name).resolve()
    if not file.is_file():
        siblings = [p.name for p in file.parent.glob("*.py")]
        return f"no such file: {file}{did_you_mean(file.name, siblings)}"
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        return f"{file}:{getattr(error, 'lineno', 1)}: {getattr(error, 'msg', error)}"
    except (RecursionError, MemoryError):  # of Python's parser, not of the machine
        return f"{file}: nested too deep to be read"
    except OSError as error:
        return f"{file}: {error.strerror}"
    found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    if function not in found:
        return f"{file} has no function {function!r}{did_you_mean(function, found)}"
    node = found[function]
    if isinstance(node, ast.AsyncFunctionDef) or not _takes_three(node.args):
        return f"{file}:{node.lineno}: {function} cannot be called so; write it as {SIGNATURE.format(function)}"
    return ""


def _takes_three(arguments: ast.arguments) -> bool:
    """Whether three positional arguments are enough and not too many."""
    positional = len(arguments.posonlyargs) + len(arguments.args)
    needed = positional - len(arguments.defaults)
    only_named = [default for default in arguments.kw_defaults if default is None]
    return needed <= 3 <= (positional if arguments.vararg is None else 3) and not only_named
