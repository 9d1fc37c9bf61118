"""`recipe setup`: the environments of the backends, of evaluation and of quantization."""

from __future__ import annotations

import argparse

from recipes.errors import UserError
from runner.verbs import options

EXAMPLES = (
    "recipe setup",
    "recipe setup verl eval-vllm",
    "recipe setup llamafactory --with flash-attn",
    "recipe setup --check",
    "recipe setup --prune",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    text = "llamafactory, verl, eval (default: these three), eval-vllm, eval-lm, eval-lm-vllm, export"
    parser.add_argument("names", nargs="*", metavar="NAME", help=text)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare built environments with their locks, file by file")
    what.add_argument("--prune", action="store_true", help="remove environments that no lock of this version wants")

    more = "packages, NAME or NAME==VERSION, to put over the lock of the one environment that is named"
    what.add_argument("--with", dest="over", nargs="+", metavar="PACKAGE", help=more)
    what.add_argument("--without", nargs="+", metavar="PACKAGE", help="take such packages away again")


def run(arguments: argparse.Namespace) -> int:
    from runner.machine import installed
    from runner.machine.environments import NAMES, ON_DEMAND, ensure, environment
    from runner.machine.topology import visible_gpus

    device = "cuda" if visible_gpus() else "cpu"
    if arguments.prune:
        options.say(f"freed {installed.prune(options.say) / 1e9:.1f} GB")
        return 0
    if arguments.over or arguments.without:
        _layer(arguments, device)
        return 0
    names = arguments.names or ((*NAMES, *ON_DEMAND) if arguments.check else NAMES)
    wanted = [environment(name, device) for name in names]
    if not arguments.check:
        for one in wanted:
            print(f"{one.name}: {ensure(one, options.say)}")
        return 0
    found = {one.name: installed.check(one) for one in wanted if one.ready or arguments.names}
    for name, problems in found.items():
        print(f"{name}: {'as locked' if not problems else f'not as locked: {len(problems)} problems'}")
        for problem in problems[:20]:
            print(f"  {problem}")
    for one in wanted:
        if found.get(one.name) not in (None, [], ["not built"]):
            options.say(f"to build {one.name} anew: rm -r {one.directory}; recipe setup {one.name}")
    return 1 if any(found.values()) else 0


def _layer(arguments: argparse.Namespace, device: str) -> None:
    from runner.machine import layering
    from runner.machine.environments import ensure

    option = "--with" if arguments.over else "--without"
    if len(arguments.names) != 1:
        raise UserError(
            f"{option}: name the one environment that is meant, such as: recipe setup llamafactory {option} …"
        )
    (name,) = arguments.names
    if arguments.over:
        found = layering.add(name, device, arguments.over, options.say)
    else:
        found = layering.remove(name, device, arguments.without)
    print(f"{found.name}: {ensure(found, options.say)}")
