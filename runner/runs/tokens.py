"""Whether a model in use is asked by the tokens that its replies were trained behind: `recipe tokens`, and `serve`."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.spec import Prompts
from recipes import UserError
from recipes.calls import as_text
from recipes.files import read_json
from recipes.methods import CONVERSATIONS, METHODS
from recipes.typed import read_typed
from runner.data.replies import FILE, Reply
from runner.data.trained import TrainedRow, TrainedSpec
from runner.failure import Failure
from runner.machine import environments
from runner.machine.environments import environment
from runner.machine.module import ask
from runner.runs.rundir import Run

TIMEOUT_S = 20.0
OURS = ("tools", "weight")  # keys of a canonical message that no server takes there


@dataclass(frozen=True)
class Difference:
    """A reply that is asked for by other tokens; `at`: the first place at which they differ."""

    reply: Reply
    asked: tuple[int, ...]
    at: int

    def __str__(self) -> str:
        trained, asked = self.reply.ids[self.at : self.at + 6], self.asked[self.at : self.at + 6]
        place = f"row {self.reply.row}, turn {self.reply.turn}: token {self.at + 1} of {len(self.reply.ids)}"
        return f"{place}: trained behind {list(trained)}, asked by {list(asked)}"


def replies(run: Run) -> tuple[Reply, ...]:
    """The replies that are compared.

    Raises:
        UserError: a run without them, such as of GRPO or of plain text.
    """
    file = run.path / "data" / FILE
    found = read_typed(tuple[Reply, ...], file) if file.is_file() else ()
    if not found:
        raise UserError(f"{run.name} has no replies to compare: {file} holds none (GRPO, plain text)")
    return found


def trained_row(run: Run, number: int, say: Callable[[str], None]) -> TrainedRow:
    """A row of `data/train.jsonl`, from 1, as it was trained on.

    Raises:
        UserError: there is none, or the run's rows are not trained on as conversations.
        Failure: what is kept of the run cannot be read.
    """
    recipe, data = run.recipe().recipe, run.path / "data"
    rows = METHODS[recipe.method].rows
    if not (rows.chat and rows.columns):
        raise UserError(f"{run.name}: --row shows a conversation with its replies, and {recipe.method} trains on none")
    if not (data / "train.jsonl").is_file() or not (data / "tokenized").is_dir():
        raise UserError(f"{data} holds no prepared rows: they were removed, or never made")
    python = environments.ensure(environment("eval", "cpu"), say)
    work = run.path / "logs"
    spec = TrainedSpec(
        directory=data,
        row=number,
        method=recipe.method,
        last_only=rows is not CONVERSATIONS or recipe.data.train_on == "last_turn",
        model=str(run.model),
        trust_remote_code=recipe.model.trust_remote_code,
        target=work / "trained-row.json",
        problems=work / "problems.json",
    )
    spec.problems.unlink(missing_ok=True)
    try:
        ask(python, "runner.data.trained", spec, work, "reading the row", run.mark("tokens"))
    except Failure:
        if not spec.problems.is_file():
            raise
        raise UserError(*read_json(spec.problems)) from None
    return read_typed(TrainedRow, spec.target)


def differences(trained: Sequence[Reply], asked: Sequence[Sequence[int]]) -> list[Difference]:
    found = []
    for reply, ids in zip(trained, asked, strict=True):
        if tuple(ids) != reply.ids:
            pairs = enumerate(zip(reply.ids, ids, strict=False))
            at = next((n for n, (one, other) in pairs if one != other), min(len(reply.ids), len(ids)))
            found.append(Difference(reply, tuple(ids), at))
    return found


def of_transformers(run: Run, trained: Sequence[Reply], say: Callable[[str], None]) -> list[list[int]]:
    """The tokens of `model/`'s own tokenizer and chat template.

    Raises:
        Failure: they cannot be loaded, or refuse a conversation.
    """
    python = environments.ensure(environment("eval", "cpu"), say)
    work, model = run.path / "logs", run.recipe().recipe.model
    target = work / "tokens-asked.json"
    spec = Prompts(
        model=str(run.model),
        prompts=tuple(tuple(reply.messages) for reply in trained),
        variables=model.chat_template_kwargs,
        trust_remote_code=model.trust_remote_code,
        target=str(target),
    )
    ask(python, "eval.models.tokens", spec, work, "the comparison", run.mark("tokens"))
    found: list[list[int]] = read_json(target)
    return found


def of_server(run: Run, trained: Sequence[Reply], address: str) -> list[list[int]]:
    """The tokens of a vLLM server, by its `/tokenize`, or of llama.cpp's, by `/apply-template` and `/tokenize`.

    Args:
        address: http://HOST:PORT, with or without /v1.

    Raises:
        UserError: nothing answers there as either does.
    """
    base = address.rstrip("/").removesuffix("/v1")
    if not base.startswith(("http://", "https://")):
        raise UserError(f"--server {address}: expected an address that begins with http:// or https://")
    variables = dict(run.recipe().recipe.model.chat_template_kwargs)
    given = {"chat_template_kwargs": variables} if variables else {}
    asked = _of_llama_cpp if _is_llama_cpp(base) else _of_vllm
    found = []
    for reply in trained:
        try:
            found.append([int(number) for number in asked(base, conversation(reply.messages) | given)])
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
            name = "llama.cpp" if asked is _of_llama_cpp else "vLLM"
            raise UserError(f"{base}/tokenize does not answer as {name} does: {error}") from None
    return found


def _of_vllm(base: str, asked: dict[str, Any]) -> list[Any]:
    body = {**asked, "add_generation_prompt": True, "add_special_tokens": False}
    return list(_post(f"{base}/tokenize", body)["tokens"])


def _of_llama_cpp(base: str, asked: dict[str, Any]) -> list[Any]:
    prompt = _post(f"{base}/apply-template", asked)["prompt"]
    # As its chat does: the first token of a text is put before it where the model's file says so, and not twice.
    return list(_post(f"{base}/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"])


def _is_llama_cpp(base: str) -> bool:
    """Its `/tokenize` takes a text, and of messages makes no token at all: it has to be known before."""
    try:
        with urllib.request.urlopen(f"{base}/props", timeout=TIMEOUT_S) as answer:
            return "build_info" in json.load(answer)
    except (OSError, ValueError, TypeError, http.client.HTTPException):
        return False  # another server, or none: what is asked next says so


def _post(address: str, body: Mapping[str, Any]) -> dict[str, Any]:
    asked = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def conversation(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`messages` and `tools` of a request, as OpenAI's API has them: the arguments of calls are JSON text.

    A reply's thinking stands under both names that servers read, vLLM's `reasoning` and `reasoning_content`.
    """
    found = []
    for message in messages:
        told = as_text({key: value for key, value in message.items() if key not in OURS})
        if "reasoning_content" in told:
            told["reasoning"] = told["reasoning_content"]
        found.append(told)
    tools = messages[0].get("tools")
    return {"messages": found, **({"tools": tools} if tools else {})}


def check_server(run: Run, address: str) -> str:
    """A sentence on a server that has just been started."""
    try:
        trained = replies(run)
        found = differences(trained, of_server(run, trained, address))
    except UserError as error:
        return f"note: whether it is asked by the tokens that were trained behind is not known: {error}"
    if found:
        return f"warning: it is not asked by the tokens that its replies were trained behind: {found[0]}"
    return f"asked by the tokens that its replies were trained behind: {len(trained)} prompts are equal"
