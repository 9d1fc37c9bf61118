"""Options that several verbs share, and how a verb talks to its user."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.errors import UserError, did_you_mean
from recipes.paths import lookup_problem
from recipes.suites import LM_EVAL, SUITES, absolute_suite, task_file
from recipes.visible import visible

if TYPE_CHECKING:
    from recipes import LoadedRecipe
    from runner.runs.rundir import Parent, Run
    from runner.training.train import Options


def add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe file, or a name from `recipe list`")


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's name or directory")


def add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="overrides",
        help="override a recipe field, e.g. training.epochs=1, 'data.train[0].max_samples=100'; may be repeated",
    )


def add_parent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="parent",
        metavar="RUN[:STEP]",
        help="begin with the weights of another run (an adapter is trained further), with a new schedule",
    )
    parser.add_argument(
        "--merged", action="store_true", help="with --from: take an adapter merged into its base, and train a new one"
    )


def add_accept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept",
        action="store_true",
        help="go on although recipe, data, processes or packages differ from the run's, and the result with them",
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """What every verb takes that begins runs, and goes on with those that were stopped."""
    add_parent(parser)
    add_accept(parser)
    add_trust(parser)
    add_runs_dir(parser)
    add_env(parser)
    add_set(parser)


def how(arguments: argparse.Namespace) -> Options:
    """What the options of a training say; of a verb without some of them, their defaults."""
    from runner.training.train import Options

    return Options(
        runs_dir=arguments.runs_dir,
        env=getattr(arguments, "env", "locked"),
        trust_run=getattr(arguments, "trust_run", False),
        accept=getattr(arguments, "accept", False),
        say=say,
    )


def loaded_child(arguments: argparse.Namespace, recipe: str, *, make: bool) -> tuple[LoadedRecipe, Parent]:
    """The recipe with what `--from` says of its model; `make`: what is not exported or merged yet."""
    from runner.training.parent import child_of

    if not arguments.parent:
        raise UserError("--merged: goes with --from RUN; add it, or take --merged out")
    merged = arguments.merged
    return child_of(recipe, arguments.overrides, arguments.parent, how(arguments), merged=merged, make=make)


def with_seeds(chosen: Sequence[Run]) -> list[Run]:
    """The runs with those that differ from them in the training seed alone, which are said."""
    from runner.scoring.seeds import with_seeds

    found = with_seeds(chosen)
    added = [run.name for run in found[len(chosen) :]]
    if added:
        say(f"with the runs of other training seeds: {', '.join(added)} (--alone leaves them out)")
    return found


# Of `recipe launch`: option, the recipe's field that it sets, metavar, help.
LAUNCH = (
    ("--on", "on", "PLACE", "slurm, ssh or skypilot"),
    ("--nodes", "nodes", "N", "machines"),
    ("--gpus", "gpus", "N", "GPUs of each node; 0 trains on CPUs"),
    ("--partition", "slurm.partition", "NAME", "of slurm"),
    ("--account", "slurm.account", "NAME", "of slurm"),
    ("--time", "slurm.time", "TIME", "of slurm: its limit, such as 12:00:00"),
)


def add_launch(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("launch", "what the recipe's field `launch` says, said here")
    for flag, _, metavar, text in LAUNCH:
        group.add_argument(flag, metavar=metavar, help=text)
    group.add_argument("--hosts", metavar="HOST,HOST", help="of ssh: the hosts, the first is node 0")


def launch_overrides(arguments: argparse.Namespace) -> list[str]:
    """What the options of `add_launch` say, as overrides of the recipe."""
    from recipes.yaml_text import dump

    said = []
    for flag, field, _, _ in LAUNCH:
        value = getattr(arguments, flag.removeprefix("--"))
        if value is not None:
            number = field in ("nodes", "gpus") and value.isascii() and value.isdigit()
            said.append(f"launch.{field}={value if number else dump(value, flow=True)}")
    if arguments.hosts is not None:
        said.append(f"launch.ssh.hosts={dump([host.strip() for host in arguments.hosts.split(',')], flow=True)}")
    return said


def check_place(arguments: argparse.Namespace, on: str | None) -> None:
    """Raise UserError for an option of `add_launch` that is of another place than the launch's."""
    from recipes import UserError

    for flag, field in (*(option[:2] for option in LAUNCH), ("--hosts", "ssh.hosts")):
        place, dot, _ = field.partition(".")
        if on and dot and place != on and getattr(arguments, flag.removeprefix("--")) is not None:
            raise UserError(f"{flag} is of {place}, and this is launched on {on}; take it out, or give --on {place}")


def add_runs_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs-dir", type=path, default=Path("runs"), help="directory of the runs (default: runs)")


def add_env(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--env",
        choices=("locked", "current"),
        default="locked",
        help="locked: the backend's own environment, built on first use (default); current: this Python",
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust-run",
        action="store_true",
        help="agree to what a run made by somebody else asks for: code, endpoints, keys",
    )


def colours() -> bool:
    """Whether what is printed may be coloured."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def share(text: str) -> float:
    """A number from 0 up to 1, for argparse."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a number from 0 up to 1, such as 0.01; got {text!r}")


def run_name(text: str) -> str:
    """The name of a run, which is a directory's, for argparse."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", text):
        allowed = "letters, digits, '.', '_' and '-', at most 80, starting with a letter or digit"
        raise argparse.ArgumentTypeError(f"expected {allowed}; got {text!r}")
    return text


def path(text: str) -> Path:
    """A path that this system can look up, there or not, for argparse."""
    if not text:
        raise argparse.ArgumentTypeError("'' is no path")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no path: bytes that are not UTF-8")
    if problem := lookup_problem(text, Path.cwd()):
        raise argparse.ArgumentTypeError(problem)
    return Path(text)


def count(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def seeds(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between, each once, for argparse."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts) or len({*map(int, parts)}) < len(parts):
        raise argparse.ArgumentTypeError(f"expected whole numbers, each once, such as 1,2,3; got {text!r}")
    return tuple(map(int, parts))


def suite(text: str) -> str:
    """A suite's name, for argparse; the path of a task file of lm-eval is made absolute."""
    if text in SUITES:
        return text
    if not text.startswith(LM_EVAL) or text == LM_EVAL:
        known = f"choose from {', '.join(SUITES)}, {LM_EVAL}TASK{did_you_mean(text, SUITES)}"
        raise argparse.ArgumentTypeError(f"unknown suite {text!r}; {known}")
    path = task_file(absolute_suite(text, Path.cwd()))
    if path and not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file: {path}")
    return absolute_suite(text, Path.cwd())


def port(text: str) -> int:
    """A TCP port, for argparse."""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text!r}")
    return int(text)


def put(text: str) -> None:
    """Rows or a recipe, which go into files: UTF-8 there whatever the locale; a terminal gets its own encoding."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.stdout.write(text)


def say(text: str) -> None:
    """A line for the user on stderr; dropped once nobody reads it, so that no pipe that ends can end a training."""
    with contextlib.suppress(OSError, ValueError):
        print(f"{visible(text)}\n", end="", file=sys.stderr, flush=True)  # in one write: threads tell of their hosts
