"""`recipe import`: a recipe from another tool's configuration, with what became of each of its keys."""

from __future__ import annotations

import argparse

from runner.verbs import options

EXAMPLES = (
    "recipe import llama3_lora_sft.yaml -o mine.yaml",
    "recipe import run_qwen3_grpo.sh --from verl",
    "recipe import axolotl.yml --gpus 8",
)

SHOWN = 120  # characters of what became of a key


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=options.path, metavar="FILE", help="a YAML file, or a script with a verl command line"
    )
    parser.add_argument(
        "-o", "--output", type=options.path, metavar="RECIPE", help="write the recipe there (default: stdout)"
    )
    parser.add_argument(
        "--from",
        dest="tool",
        choices=("llamafactory", "axolotl", "verl", "torchtune"),
        help="whose configuration it is (default: told from its keys)",
    )
    parser.add_argument(
        "--gpus", type=int, default=1, metavar="N", help="GPUs it was written for; the global batch counts them"
    )
    parser.epilog = (
        "What became of each key is said on stderr; what has no place in a recipe is named at its head, too."
    )


def run(arguments: argparse.Namespace) -> int:
    from recipes.errors import UserError
    from recipes.files import write_text
    from runner.imports.read import import_file
    from runner.runs.show import table

    if arguments.gpus < 1:
        raise UserError(f"--gpus: {arguments.gpus} is not allowed; allowed: 1 and more")
    if arguments.output and arguments.output.exists():
        raise UserError(f"{arguments.output}: is there already; name another file, or remove it")
    found = import_file(arguments.file, arguments.gpus, arguments.tool, arguments.output)
    rows = [(one.key or "-", one.status, one.text[:SHOWN]) for one in found.entries]
    options.say(table([(f"key of {found.tool}", "is", "as"), *rows]))
    if arguments.output:
        write_text(arguments.output, found.text)
        print(arguments.output)
    else:
        options.put(found.text)
    if found.problems:
        options.say("the recipe needs your hand before it runs:")
        for problem in found.problems:
            options.say(f"  {getattr(problem, 'field', '')}: {getattr(problem, 'text', problem)}")
        return 2
    return 0
