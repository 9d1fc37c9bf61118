"""What is installed in the built environments: whether that is what the locks say, and what no lock wants any more."""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from runner.files import cache_directory
from runner.machine.environments import Environment, every_environment


def check(wanted: Environment) -> list[str]:
    """What is wrong with a built environment: distributions missing, of another version, or without some files."""
    if not wanted.ready:
        return ["not built"]
    installed, locked = _installed(wanted), _locked(wanted)
    problems = []
    for name, versions in locked.items():
        found = installed.get(name)
        if found is None:
            if None not in versions:  # else it is of another platform or Python
                problems.append(f"{name}: expected {' or '.join(map(str, versions))}, got nothing")
        elif found[0] not in versions:
            expected = " or ".join(version for version in versions if version)
            problems.append(f"{name}: expected {expected}, got {found[0]}")
        elif lost := _lost_files(found[1]):
            problems.append(f"{name} {found[0]}: {len(lost)} files missing or of another size, such as {lost[0]}")
    return problems


def _locked(wanted: Environment) -> dict[str, set[str | None]]:
    """Normalized name to the versions that a lock allows; None among them where some platforms go without."""
    found: dict[str, set[str | None]] = {}
    for line in wanted.requirements:
        requirement, marker, _ = line.partition(";")
        found.setdefault(_name(requirement), set()).add(requirement.partition("==")[2].strip())
        if marker:
            found[_name(requirement)].add(None)
    return found


def _installed(wanted: Environment) -> dict[str, tuple[str, Path]]:
    """Normalized name to version and metadata directory."""
    found = {}
    for path in wanted.directory.glob("lib/python*/site-packages/*.dist-info"):
        name, _, version = path.name.removesuffix(".dist-info").partition("-")
        found[_name(name)] = (version, path)
    return found


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>\[;]", text)[0].strip()).lower()


def _lost_files(metadata: Path) -> list[str]:
    """The files that a distribution's RECORD names and that are not there in that size."""
    lost = []
    with (metadata / "RECORD").open(encoding="utf-8", newline="") as stream:
        for file, _, size in csv.reader(stream):
            try:
                there = os.stat(metadata.parent / file).st_size  # noqa: PTH116 - of 100,000 files
            except OSError:
                there = -1
            # Scripts and caches are written anew where they are installed: only packages count.
            if there != int(size or max(there, 0)) and not file.startswith("..") and not file.endswith(".pyc"):
                lost.append(file)
    return lost


def unwanted() -> list[Path]:
    """Environments, built or half built, that no lock of this version wants."""
    root = cache_directory() / "environments"
    wanted = {one.directory for one in every_environment()}
    other = {  # of the other Python that is supported: another virtual environment of this version may use it
        Path(str(path).replace(f"py{sys.version_info.major}.{sys.version_info.minor}", f"py3.{minor}"))
        for path in wanted
        for minor in (11, 12)
    }
    found = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    return sorted(path for path in found if path not in other or not (path / "complete.json").is_file())


def prune(say: Callable[[str], None]) -> float:
    """Remove what `unwanted` names; returns the bytes that were in it, counted once a file."""
    import filelock

    freed = 0.0
    for directory in unwanted():
        try:
            with filelock.FileLock(f"{directory}.lock").acquire(timeout=0):
                size = sum(s.st_size for f in directory.rglob("*") if (s := f.lstat()).st_nlink == 1)
                shutil.rmtree(directory)
        except filelock.Timeout:
            say(f"{directory.name} is being built, and stays")
            continue
        say(f"removed {directory.name}")
        freed += size
        for leaf in (f"{directory}.log", f"{directory}.lock"):
            Path(leaf).unlink(missing_ok=True)
    return freed
