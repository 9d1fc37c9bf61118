"""Notes which values of verl's configuration are read, in each Python process that has this directory on its path.

Ray's workers, vLLM's engine and the trainer each write names to a file of their own in the directory $READS: those of
Hydra's tree by their whole place (actor_rollout_ref.actor.shuffle), those of verl's own classes by the class
(RolloutConfig.seed).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

# Whole objects are written down, copied and turned into others without anything acting.
COPIES = {"asdict", "_asdict_inner", "__iter__", "__setattr__", "__repr__", "__deepcopy__"}
COPIERS = ("/omegaconf/", "/hydra/", "/adapters/", "verl/utils/config.py", "verl/base_config.py")
_noted: set[str] = set()


def _note(name: str, frame: FrameType) -> None:
    code = frame.f_code
    if name in _noted or code.co_name in COPIES or any(part in code.co_filename for part in COPIERS):
        return
    _noted.add(name)
    with Path(os.environ["READS"], str(os.getpid())).open("a") as file:
        file.write(f"{name}\n")


def _watch_classes(module: ModuleType) -> None:
    def read(self: Any, name: str) -> Any:
        frame = sys._getframe(1)
        if frame.f_code.co_name in ("get", "__getitem__") and frame.f_code.co_filename == module.__file__:
            frame = frame.f_back or frame
        if not name.startswith("__"):
            _note(f"{type(self).__name__}.{name}", frame)
        return object.__getattribute__(self, name)

    module.BaseConfig.__getattribute__ = read


def _watch_tree(module: ModuleType) -> None:
    plain = module.DictConfig._get_impl

    def read(self: Any, key: Any, *rest: Any, **more: Any) -> Any:
        frame = sys._getframe(1)
        while frame.f_back and "/omegaconf/" in frame.f_code.co_filename:
            frame = frame.f_back
        _note(self._get_full_key(key), frame)
        return plain(self, key, *rest, **more)

    module.DictConfig._get_impl = read


WATCHED = {"verl.base_config": _watch_classes, "omegaconf.dictconfig": _watch_tree}


class _Watcher(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec and spec.loader
        plain = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            plain(module)
            WATCHED[name](module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Watcher())
