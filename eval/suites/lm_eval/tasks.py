"""Finds and reads the tasks that suites name, before a model is loaded: what is not there is told at once."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eval.spec import Spec
from eval.suites.lm_eval import sandbox
from eval.suites.lm_eval.records import plain
from recipes.errors import UserError, did_you_mean
from recipes.suites import LM_EVAL, suite_id, task_file

# What lm-eval, datasets and a task's own code raise where a task or its data is wrong or not there.
FAULTS = (OSError, ImportError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)
LOCAL = (
    "or give the task as a file, lm_eval:FILE.yaml, with data of yours: `dataset_path: json` and "
    "`dataset_kwargs: {data_files: {test: rows.jsonl}}`"
)


@dataclass(frozen=True)
class Loaded:
    """A suite's tasks and groups, as lm-eval takes them.

    path: its task file's, where it has one.
    ended: programs of a model that ended the sandbox they ran in, by how.
    """

    items: list[Any]
    tasks: Mapping[str, Any]
    path: str | None
    manager: Any
    ended: Counter[str]


def load(spec: Spec) -> dict[str, Loaded]:
    """The tasks of every suite with their data, by the name under which the suite's results stand.

    Raises:
        UserError: an unknown task, data that cannot be read, or a task that is refused; of all suites at once.
    """
    found: dict[str, Loaded] = {}
    problems: list[str] = []
    index = _manager(spec)
    with _naming_data():
        for suite in spec.suites:
            try:
                found[suite_id(suite)] = _load(suite, index, allow_code=spec.allow_code)
            except UserError as error:
                problems += map(str, error.problems)
    if problems:
        raise UserError(*problems)
    return found


def _manager(spec: Spec) -> Any:
    """lm-eval's index of tasks; its own thousands are read (10 s) only where they may be asked for.

    A group in a file may name tasks that lie beside it, so its directory is indexed too.
    """
    from lm_eval.tasks import TaskManager

    files = [path for suite in spec.suites if (path := task_file(suite))]
    groups = {str(Path(path).parent) for path in files if "group" in _content(path)}
    model = spec.models[0]
    about = {"pretrained": model.base or model.path}  # a few tasks make their prompts to a tokenizer's length
    defaults = bool(groups) or len(files) < len(spec.suites)
    return TaskManager(include_path=sorted(groups) or None, include_defaults=defaults, metadata=about)


def _content(path: str) -> Mapping[str, Any]:
    """The task file with what it includes; its functions are not run.

    Raises:
        UserError: it is no task file.
    """
    import yaml
    from lm_eval.tasks._yaml_loader import load_yaml  # the version is locked

    try:
        content = load_yaml(Path(path), resolve_func=False)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a task file of lm-eval: {_first(error)}") from None
    if not isinstance(content, dict) or not isinstance(content.get("task") or content.get("group"), (str, list)):
        raise UserError(f"{path}: not a task file of lm-eval: it names no `task` and no `group`")
    return content


def _load(suite: str, index: Any, *, allow_code: bool) -> Loaded:
    path, name = task_file(suite), suite.removeprefix(LM_EVAL)
    content = _content(path) if path else {}
    if not path and name not in index.all_tasks:
        text = f"{suite}: lm-eval has no task, group or tag {name!r}{did_you_mean(name, index.all_tasks)}"
        raise UserError(f"{text}; `lm_eval:FILE.yaml` takes a task file of your own")
    unsafe = sorted(set(_unsafe(content or name, index)))
    if unsafe and not allow_code:
        _refuse_code(suite, unsafe)  # before anything of the task is run: its own module may ask for more
    if "group" in content and index.task_index[content["group"]].yaml_path != Path(path or ""):
        other = index.task_index[content["group"]].yaml_path
        raise UserError(f"{suite}: {other} has a group {content['group']} too; give one of them another name")
    beside = contextlib.chdir(Path(path).parent) if path else contextlib.nullcontext()
    try:
        with beside:
            # lm-eval takes a task by its file's path, but a group only by its name in the index.
            loaded = index.load([content.get("group", name)])
    except FAULTS as error:
        raise UserError(f"{suite}: lm-eval cannot load it: {_first(error)}") from None
    tasks, groups = loaded["tasks"], loaded.get("groups", {})
    unsafe = [one for one, task in tasks.items() if getattr(task, "UNSAFE_CODE", False)]
    if unsafe and not allow_code:
        _refuse_code(suite, unsafe)
    if unsafe:
        sandbox.check()
    ended: Counter[str] = Counter()
    for one in unsafe:
        tasks[one].process_results = partial(_in_sandbox, tasks[one], tasks[one].process_results, ended)
    if pictured := [one for one, task in tasks.items() if getattr(task, "MULTIMODAL", False)]:
        raise UserError(f"{suite}: {', '.join(pictured[:3])}: tasks with pictures or sound are not scored here")
    if not tasks:
        raise UserError(f"{suite}: it holds no task")
    below = {name for children in loaded.get("group_map", {}).values() for name in children}
    return Loaded([one for name, one in {**groups, **tasks}.items() if name not in below], tasks, path, index, ended)


def _in_sandbox(task: Any, process: Callable[..., Any], ended: Counter[str], doc: Any, results: Any) -> dict[str, Any]:
    """The measures of a reply that is code: nought where its program ended the sandbox that it ran in."""
    try:
        told = sandbox.run(lambda: plain(process(doc, results)))
    except sandbox.Ended as error:
        ended[str(error)] += 1
        return dict.fromkeys(task.aggregation(), 0.0)
    except sandbox.Raised as error:
        raise UserError(f"task {task.config.task}: its measures failed on a reply: {error}") from None
    return {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}


def _refuse_code(suite: str, tasks: list[str]) -> None:
    names = ", ".join(tasks[:3]) + (f" and {len(tasks) - 3} more" if len(tasks) > 3 else "")
    raise UserError(
        f"{suite}: {names}: runs code that the model writes (unsafe_code); "
        "eval.allow_code: true (--allow-code) runs it in a sandbox without a network"
    )


def _unsafe(member: str | Mapping[str, Any], index: Any) -> Iterator[str]:
    """The tasks that say `unsafe_code`, of those below a name or a configuration; none is loaded."""
    entry = index.task_index.get(member) if isinstance(member, str) else None
    content = (entry.cfg or {}) if entry else member if isinstance(member, Mapping) else {}
    named = content.get("task")
    if content.get("unsafe_code"):
        yield str(named)
    members: Iterable[str | Mapping[str, Any]] = ()
    if isinstance(named, list):
        members = named
    elif entry is None and isinstance(named, str):  # of a group, which sets something else in a task: {task: mbpp, …}
        members = [named]
    elif entry and entry.kind.name == "TAG":
        members = entry.tags
    for below in members:
        yield from _unsafe(below, index)


@contextlib.contextmanager
def _naming_data() -> Iterator[None]:
    """While tasks are loaded, a data set that cannot be read is named, with what can be given instead of it."""
    from lm_eval.api.task import ConfigurableTask

    download = ConfigurableTask.download

    def named(self: Any, *arguments: Any, **options: Any) -> None:
        try:
            download(self, *arguments, **options)
        except FAULTS as error:
            subset = f" ({self.DATASET_NAME})" if self.DATASET_NAME else ""
            text = f"task {self.config.task}: its data set {self.DATASET_PATH}{subset} cannot be read: {_first(error)}"
            raise UserError(f"{text}; fetch it where the Hub can be reached, {LOCAL}") from None

    ConfigurableTask.download = named
    try:
        yield
    finally:
        ConfigurableTask.download = download


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
