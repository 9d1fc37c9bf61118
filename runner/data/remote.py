"""Which files of a remote store are a source's data, by the rules that a directory here has."""

from __future__ import annotations

import glob
from pathlib import PurePath, PurePosixPath

from recipes import data_files
from recipes.data_files import Chosen, File
from recipes.errors import UserError
from recipes.remote import Remote, explained, system_of


def choose(url: str, split: str | None) -> Chosen:
    """The data files at `url`, a file, a folder, or a pattern, as `data_files.choose` finds them at a path.

    Raises:
        UserError: nothing to read, no access, or no package for such a store.
    """
    with explained(url):
        system, root = system_of(url)
        pattern = glob.has_magic(root)
        if pattern:
            found = [name for name in system.glob(root) if system.isfile(name)]
        else:
            found = [root] if system.isfile(root) else system.find(root)
        files = {PurePosixPath(name): Remote(system.unstrip_protocol(name)) for name in sorted(found)}
    if not files:
        raise UserError(f"{url}: nothing there; check the name, and your access")
    if not pattern and (one := files.get(PurePosixPath(root))):
        return data_files.single(one, split)
    base = data_files.fixed_part(PurePosixPath(root))
    inside = {name.relative_to(base): file for name, file in files.items()}
    data: dict[PurePath, File] = {name: file for name, file in inside.items() if not data_files.is_no_data(name)}
    return data_files.by_split(url, data, split, asked=pattern)
