"""Talking to models: a run's, its base, any directory's; one beside the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import Any

from eval.spec import Chat, Model
from recipes import UserError
from recipes.paths import lookup_problem
from recipes.typed import write_typed
from runner.failure import Failure
from runner.files import code_directory
from runner.machine import bundled, diagnose, environments, process
from runner.machine.environments import environment
from runner.machine.hub import offline_if_unreachable, taken
from runner.machine.process import clean_environment
from runner.machine.topology import topology
from runner.runs.reward_model import check_writes
from runner.runs.rundir import Run, find
from runner.runs.trust import check_links, check_trusted
from runner.scoring.models import base_of, tuned_of

BASE = "base"  # in place of a second model: the base of the first
Messages = list[dict[str, str]]


@dataclass
class Conversation:
    """What was said to a model and what it said."""

    name: str
    system: str | None = None
    turns: Messages = field(default_factory=list)

    @property
    def messages(self) -> Messages:
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.turns]


@dataclass(frozen=True)
class Talk:
    """Models that have been loaded and wait for questions; by name the process that each is in, and its log."""

    children: Mapping[str, tuple[Popen[bytes], Path]]

    def reply(self, conversation: Conversation, piece: Callable[[str], None]) -> str:
        """Ask for the next reply, hand on its pieces, and put it behind the conversation; returns how it ended.

        Raises:
            UserError: this conversation cannot be answered.
            Failure: the models' process has ended.
        """
        child, log = self.children[conversation.name]
        assert child.stdin
        asked = {"model": conversation.name, "messages": conversation.messages}
        try:
            child.stdin.write(json.dumps(asked).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            raise _ended(child, log) from None
        said = ""
        while True:
            heard = _heard(child, log)
            if "error" in heard:
                raise UserError(f"{conversation.name}: {heard['error']}")
            if "end" in heard:
                conversation.turns.append({"role": "assistant", "content": said})
                return str(heard["end"])
            said += heard["text"]
            piece(heard["text"])


@contextmanager
def talk(chat: Chat, say: Callable[[str], None]) -> Iterator[Talk]:
    """Load the models and keep them until the block ends: in one process, or where vLLM answers in one each.

    Raises:
        UserError: one is not there, or has no chat template.
        Failure: the process ended otherwise.
    """
    spec = chat.spec
    paths = [path for model in spec.models for path in (model.path, model.base) if path]
    offline_if_unreachable(taken(paths, (), ()), say)
    vllm = spec.engine == "vllm"
    python = environments.ensure(environment(environments.VLLM if vllm else "eval", topology().device), say)
    if any("bundled" in path for model in spec.models for path in (model.path, model.base or "")):
        bundled.ensure(python, say)
    groups = [(model,) for model in spec.models] if vllm else [spec.models]
    found: dict[str, tuple[Popen[bytes], Path]] = {}
    with TemporaryDirectory(prefix="recipe-chat-") as directory, ExitStack() as stack:
        for number, models in enumerate(groups):
            file, log = (Path(directory) / f"chat-{number}.{kind}" for kind in ("json", "log"))
            write_typed(file, replace(chat, spec=replace(spec, models=models), share=1 / len(groups)))
            env = clean_environment({"PYTHONPATH": str(code_directory()), "PYTHONUNBUFFERED": "1"})
            command = [str(python), "-m", "eval.engines.chat", str(file)]
            say(f"loading {', '.join(model.name for model in models)}{' in vLLM' if vllm else ''}")
            mark = f"chat:{directory}:{number}"
            child = stack.enter_context(process.talking(command, cwd=Path(directory), env=env, log=log, mark=mark))
            found |= dict.fromkeys(_heard(child, log)["ready"], (child, log))
        yield Talk(found)


def _heard(child: Popen[bytes], log: Path) -> dict[str, Any]:
    assert child.stdout
    line = child.stdout.readline()
    if not line:
        raise _ended(child, log)
    found: dict[str, Any] = json.loads(line)
    return found


def _ended(child: Popen[bytes], log: Path) -> Exception:
    code = child.wait(10)
    last = diagnose.tail(log)
    if code == 2:
        return UserError(*diagnose.tail(log, 3).splitlines())
    return Failure("the models' process", cause=diagnose.cause(last, code), tail=last)


def chat_of(
    names: Sequence[str],
    runs_dir: Path,
    chat: Chat,
    say: Callable[[str], None],
    *,
    trusted: bool,
    engine: str | None = None,
) -> Chat:
    """The models by their names: runs, directories, hub ids, `bundled:…`; `base` is that of the first.

    The template, its variables, the engine and what may run are those of the first run's recipe, where nothing else is
    asked for.

    Raises:
        UserError: a run that has not succeeded, or a base where there is none.
    """
    models: list[Model] = []
    spec, first = chat.spec, _run(names[0], runs_dir)
    for name in names:
        run = first if name == names[0] else None if name == BASE else _run(name, runs_dir)
        if name == BASE:
            if first is None:
                raise UserError(f"{BASE}: {names[0]} is no run, so that it has no base; name another model")
            models.append(replace(base_of(first, first.recipe().recipe, Path()), name=BASE))
        elif run is None:
            models.append(Model(name=name, path=_located(name, say), output=Path()))
        else:
            models.append(replace(_tuned(run, trusted), name=run.name))
    if first is not None:
        recipe = first.recipe().recipe
        spec = replace(
            spec,
            chat_template=spec.chat_template or recipe.model.chat_template,
            chat_template_kwargs={**recipe.model.chat_template_kwargs, **spec.chat_template_kwargs},
            trust_remote_code=recipe.model.trust_remote_code,
            thinking=recipe.eval.thinking if spec.thinking == "auto" else spec.thinking,
            engine=recipe.eval.engine,
        )
    seen: list[Model] = []
    for model in models:  # one name, one model
        number = sum(one.name.partition(" (")[0] == model.name for one in seen)
        seen.append(replace(model, name=f"{model.name} ({number + 1})") if number else model)
    return replace(chat, spec=replace(spec, models=tuple(seen), engine=engine or spec.engine))


def _run(name: str, runs_dir: Path) -> Run | None:
    if name.startswith("bundled:"):
        return None
    if problem := lookup_problem(name, Path.cwd()):
        raise UserError(problem)
    try:
        return find(name, runs_dir)
    except UserError:
        if Path(name).is_dir() or "/" in name:
            return None
        raise


def _tuned(run: Run, trusted: bool) -> Model:
    if run.state() != "succeeded":
        raise UserError(f"{run.name} has state {run.state()}: only a run that succeeded can be talked to")
    check_links(run)
    check_writes(run, "talked to")
    recipe = run.recipe().recipe
    check_trusted(run, recipe, "chat", trusted=trusted)
    return tuned_of(run, recipe, Path())


def _located(path: str, say: Callable[[str], None]) -> str:
    if path.startswith("bundled:"):
        return bundled.located(path)
    if Path(path).is_dir():
        return str(Path(path).resolve())
    if path.startswith((".", "/", "~")):
        raise UserError(f"{path}: no such directory")
    return path
