"""Puts packages over an environment's lock, and takes them away: `recipe setup BACKEND --with flash-attn`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from recipes import UserError, did_you_mean
from recipes.files import write_text
from runner.failure import Failure
from runner.machine import layers
from runner.machine.diagnose import installer_cause
from runner.machine.environments import Environment, ensure, environment, run_uv
from runner.machine.layers import Layer

ASKED = re.compile(r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)(==[\w.!+]+)?")
_CHANGE = re.compile(r"^ ([-+~]) (\S+)==(\S+?)(?: \(from .*\))?$", re.MULTILINE)


def name_of(requirement: str) -> str:
    """A distribution's name as indexes write it: `Flash_Attn==2.8.3` is flash-attn."""
    return re.sub(r"[-_.]+", "-", requirement.partition("==")[0]).lower()


def add(name: str, device: str, asked: Sequence[str], say: Callable[[str], None]) -> Environment:
    """Keep a layer for each package, NAME or NAME==VERSION, and build the environment with them.

    Raises:
        UserError: no such environment, no package's name, or one that the lock has already.
        Failure: uv found no version that goes with the lock, or could not build it; what was kept before is kept.
    """
    if wrong := [text for text in asked if not ASKED.fullmatch(text)]:
        raise UserError(*(f"--with {text}: write a package as NAME or NAME==VERSION" for text in wrong))
    for text in asked:
        before = environment(name, device)
        under = without(before, name_of(text))
        layer = Layer(name=name_of(text), requirements=_resolved(text, under, say))
        layers.keep(before.base, layer)
        say(f"layer {layer.name} over {before.lock.name}: {', '.join(layer.requirements)}")
        try:
            ensure(environment(name, device), say)
        except BaseException:
            layers.drop(before.base, layer.name)
            for old in before.layers:
                layers.keep(before.base, old)
            raise
    return environment(name, device)


def remove(name: str, device: str, asked: Sequence[str]) -> Environment:
    """Forget layers; the environment is the one without them.

    Raises:
        UserError: no such environment or layer.
    """
    found = environment(name, device)
    known = [one.name for one in found.layers]
    for text in map(name_of, asked):
        if text not in known:
            there = ", ".join(known) or "none"
            raise UserError(f"--without {text}: no such layer of {name}; it has: {there}{did_you_mean(text, known)}")
        layers.drop(found.base, text)
    return environment(name, device)


def without(found: Environment, layer: str) -> Environment:
    """The environment without one of its layers, where it has that."""
    return replace(found, layers=tuple(one for one in found.layers if one.name != layer))


def _resolved(text: str, under: Environment, say: Callable[[str], None]) -> tuple[str, ...]:
    """What uv would install for a package beside all that the environment has, which stays as it is.

    Raises:
        UserError: it is there already.
        Failure: no version goes with the lock.
    """
    python = ensure(under, say)
    work = under.directory.with_name(f"{under.directory.name}.with-{name_of(text)}")
    constraints, log = work.with_name(f"{work.name}.in"), work.with_name(f"{work.name}.log")
    write_text(constraints, "".join(f"{line}\n" for line in under.requirements))
    log.unlink(missing_ok=True)
    say(f"looking for a {text} that goes with {under.lock.name}")
    command = ["pip", "install", "--python", str(python), "--dry-run", "--constraints", str(constraints)]
    code = run_uv([*command, *layers.build_options(), text], log, mark=str(work), say=say)
    told = log.read_text(encoding="utf-8", errors="replace")
    constraints.unlink()
    if code:
        raise Failure(
            f"no {text} goes with the lock of the {under.name} environment (uv's exit code {code})",
            cause=installer_cause("\n".join(told.splitlines()[-60:])),
            tail="\n".join(told.splitlines()[-15:]),
            log=log,
        )
    changes = _CHANGE.findall(told)
    if changed := [package for sign, package, _ in changes if sign != "+"]:
        raise Failure(f"{text} would change {', '.join(changed)}, which the {under.name} environment has", log=log)
    if not changes:
        raise UserError(f"--with {text}: the {under.name} environment has it already; nothing was done")
    log.unlink()
    return tuple(f"{package}=={version}" for _, package, version in changes)
