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
from recipes.files import read_json
from recipes.typed import read_typed
from runner.data.replies import FILE, Reply
from runner.machine import environments
from runner.machine.environments import environment
from runner.machine.module import ask
from runner.runs.rundir import Run

TIMEOUT_S = 20.0


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
        UserError: a run without them, such as of GRPO, of plain text, or of rows with tools.
    """
    file = run.path / "data" / FILE
    found = read_typed(tuple[Reply, ...], file) if file.is_file() else ()
    if not found:
        raise UserError(f"{run.name} has no replies to compare: {file} holds none (GRPO, plain text, rows with tools)")
    return found


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
    variables = dict(run.recipe().recipe.model.chat_template_kwargs)
    given = {"chat_template_kwargs": variables} if variables else {}
    asked = _of_llama_cpp if _is_llama_cpp(base) else _of_vllm
    found = []
    for reply in trained:
        try:
            found.append([int(number) for number in asked(base, [dict(one) for one in reply.messages], given)])
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
            name = "llama.cpp" if asked is _of_llama_cpp else "vLLM"
            raise UserError(f"{base}/tokenize does not answer as {name} does: {error}") from None
    return found


def _of_vllm(base: str, messages: list[dict[str, Any]], given: Mapping[str, Any]) -> list[Any]:
    body = {"messages": messages, "add_generation_prompt": True, "add_special_tokens": False, **given}
    return list(_post(f"{base}/tokenize", body)["tokens"])


def _of_llama_cpp(base: str, messages: list[dict[str, Any]], given: Mapping[str, Any]) -> list[Any]:
    prompt = _post(f"{base}/apply-template", {"messages": messages, **given})["prompt"]
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
