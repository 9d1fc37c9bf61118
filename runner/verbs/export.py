"""`recipe export`: a run's model in 8 or 4 bits, compared with the one that was trained."""

from __future__ import annotations

import argparse
from pathlib import Path

from eval.models.schemes import SCHEMES
from recipes.errors import UserError
from recipes.paths import lookup_problem
from runner.verbs import options

EXAMPLES = (
    "recipe export quickstart --to fp8",
    "recipe export quickstart:5 --to awq --calibration-rows 512 --output ~/models/finance-awq",
    "recipe export quickstart --to gptq --margin 0.03 --suites truthfulqa_mc",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN[:STEP]", help="a run's name or directory, or one of its checkpoints")
    told = "; ".join(f"{name}: {one.text}" for name, one in SCHEMES.items())
    add("--to", required=True, choices=tuple(SCHEMES), dest="scheme", help=told)
    add(
        "-o",
        "--output",
        type=options.path,
        help="directory of the exported model (default: in the run)",
    )
    add(
        "--calibration-rows",
        type=options.count,
        default=256,
        metavar="N",
        help="training rows that int8, gptq and awq look at (default: 256, or all where there are fewer)",
    )
    margins = ", ".join(f"{name} {100 * one.margin:g} %%" for name, one in SCHEMES.items())
    add("--margin", type=options.share, help=f"share by which perplexity may rise (default: {margins})")
    text = "compared on beside perplexity (default: the recipe's); alone, without a name: on none"
    add("--suites", nargs="*", type=options.suite, metavar="SUITE", help=text)
    add("--max-samples", type=options.count, metavar="N", help="of each suite at most (default: the recipe's)")
    add("--fast", action="store_true", help="do not compare it with the model that it was made of")
    options.add_trust(parser)
    options.add_runs_dir(parser)
    parser.epilog = (
        "Exit code 0: as good as before, within the margin; 3: not good, or not shown to be (the files stay, and "
        "their README.md and export.json say so); 1: a step failed; 2: a mistake."
    )


def run(arguments: argparse.Namespace) -> int:
    from recipes.model_files import ADAPTER
    from runner.runs.trust import check_links, check_trusted
    from runner.scoring.export import How, export
    from runner.training.parent import merged_of, named, weights_of
    from runner.training.train import Options

    how = How(
        scheme=arguments.scheme,
        margin=arguments.margin,
        rows=arguments.calibration_rows,
        verify=not arguments.fast,
        suites=None if arguments.suites is None else tuple(arguments.suites),
        max_samples=arguments.max_samples,
    )
    if not lookup_problem(arguments.run, Path.cwd()) and Path(arguments.run, ADAPTER).is_file():
        text = "an adapter of no run has no training rows to calibrate and compare on; `recipe merge` takes it"
        raise UserError(f"{arguments.run}: {text}")
    found, step = named(arguments.run, arguments.runs_dir)
    check_links(found)
    check_trusted(found, found.recipe().recipe, "export", trusted=arguments.trust_run)
    asking = Options(runs_dir=arguments.runs_dir, trust_run=arguments.trust_run, say=options.say)
    weights = weights_of(found, step, asking, make=True)
    own = weights.with_name(f"{weights.name}-{how.scheme}") if weights != found.model else None
    target = (arguments.output or own or found.path / "exported" / how.scheme).resolve()
    adapter = (weights / ADAPTER).is_file()
    whole = (lambda: merged_of(found, weights, asking, make=True)) if adapter else (lambda: weights)
    done = export(found, weights, step, target, how, options.say, whole)
    options.say(f"weights: {done.bytes_before / 1e6:,.1f} MB before, {done.bytes_after / 1e6:,.1f} MB now")
    options.say(f"{done.verdict}: {done.reason}")
    print(target)
    return 0 if done.verdict in ("good", "not verified") else 3
