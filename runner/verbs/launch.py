"""`recipe launch`: start a recipe on Slurm, on hosts by ssh, or through SkyPilot."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from runner.verbs import options

if TYPE_CHECKING:
    from recipes import LoadedRecipe

EXAMPLES = (
    "recipe launch qwen3_4b_financial --on slurm --nodes 2 --gpus 8 --partition gpu --time 12:00:00 --dry-run",
    "recipe launch quickstart --on ssh --hosts node-a,node-b --gpus 8",
    "recipe launch qwen3_4b_financial --on skypilot --gpus 8 --set launch.skypilot.accelerator=H100 "
    "--set launch.skypilot.storage=s3://my-runs",
    "recipe launch finance_dpo --on slurm --from quickstart --dry-run",
    "recipe launch quickstart --on slurm --name quickstart --resume",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_recipe(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be submitted, and stop")
    parser.add_argument(
        "--name", type=options.run_name, help="name of the run directory (default: the recipe's name, then -2, -3, …)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="where the run of this name is there, launch it again: it goes on"
    )
    parser.add_argument("--no-eval", action="store_true", help="train only; evaluate later with `recipe eval`")
    options.add_launch(parser)
    options.add_training(parser)
    parser.epilog = "The last line on stdout is the run directory."


def run(arguments: argparse.Namespace) -> None:
    from recipes import load
    from runner.launching import launch

    arguments.overrides = [*arguments.overrides, *options.launch_overrides(arguments)]
    began: tuple[str, ...] = ()
    if arguments.resume and (there := _directory(arguments)).is_dir():
        began = launch.recorded(there, arguments.parent, merged=arguments.merged)
        loaded = launch.load_again(arguments.recipe, arguments.overrides, there, began)
    elif arguments.parent or arguments.merged:
        loaded, parent = options.loaded_child(arguments, arguments.recipe, make=not arguments.dry_run)
        began = launch.began(parent, merged=arguments.merged)
    else:
        loaded = load(arguments.recipe, arguments.overrides)
    options.check_place(arguments, loaded.recipe.launch.on)
    run = _directory(arguments, loaded)
    flags = ["--no-eval"] if arguments.no_eval else []
    flags += ["--env", "current"] if arguments.env == "current" else []
    flags += ["--accept"] if arguments.accept else []
    if arguments.dry_run:
        asked = launch.request(loaded, run, flags, began)
        print(launch.launch_text(asked, launch.job(asked)))
        return
    how = launch.Options(
        runs_dir=arguments.runs_dir,
        name=arguments.name,
        resume=arguments.resume,
        trust_run=arguments.trust_run,
        flags=tuple(flags),
        began=began,
        say=options.say,
    )
    print(launch.start(loaded, how).path)


def _directory(arguments: argparse.Namespace, loaded: LoadedRecipe | None = None) -> Path:
    """Of the run; `loaded`: its recipe, where that is read already."""
    from recipes import load

    name = arguments.name or (loaded or load(arguments.recipe, arguments.overrides)).recipe.name
    return Path(arguments.runs_dir.resolve(), name)
