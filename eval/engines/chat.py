"""Talks: a conversation a line on stdin, the next reply of a model on stdout in pieces, as they are made.

Usage: python -m eval.engines.chat SPEC.json, inside the evaluation environment. A line of stdin is {"model": its name,
"messages": [...]}; lines of stdout are {"text": …} until {"end": "stop" | "length"}, or {"error": …} in its place. The
first line says {"ready": [names]}. Replies are greedy, without penalties, as evaluations have them, unless the spec's
`temperature` says otherwise.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

from eval.encode import Text, load_text
from eval.engines import vllm_engine
from eval.engines.directory import locate
from eval.engines.greedy import end_tokens
from eval.engines.loading import load_model
from eval.spec import Chat, Model
from eval.worker import quiet
from recipes.encode import BadRow
from recipes.errors import UserError
from recipes.typed import read_typed

Told = dict[str, str]  # text, end or error
Replies = Callable[[list[int], int], Iterator[Told]]  # (prompt, most tokens) -> the reply in pieces, and how it ended


class Talker:
    """A model that answers conversations in its own chat template."""

    def __init__(self, text: Text, positions: int, chat: Chat, replies: Replies) -> None:
        self.text, self.positions, self.chat, self.replies = text, positions, chat, replies

    def reply(self, messages: list[dict[str, str]]) -> Iterator[Told]:
        """The pieces of the next reply, and how it ended."""
        ids = self.text.chat_ids(messages)
        room = min(self.chat.max_new_tokens, self.positions - len(ids))
        if room < 1:
            yield {"error": f"the conversation has {len(ids)} tokens, and the model {self.positions} positions: /reset"}
            return
        yield from self.replies(ids, room)


def load(model: Model, chat: Chat) -> Talker:
    """A model in the spec's engine.

    Raises:
        UserError: it cannot be loaded, or has no chat template.
    """
    files = locate(model)
    text = load_text(files.tokenizer, chat.spec.asking)
    text.encoder  # noqa: B018 - a model without a template is refused before it is loaded
    if chat.spec.engine == "vllm":
        engine = vllm_engine.load(model, chat.spec, text.tokenizer, text.turn_ends, share=chat.share)
        return Talker(text, engine.max_positions, chat, lambda ids, most: engine.stream(ids, most, chat))
    loaded = load_model(model, files, chat.spec)
    ends = end_tokens(getattr(loaded, "generation_config", None), loaded.config, text.tokenizer, text.turn_ends)
    return Talker(text, files.max_positions(), chat, _by_transformers(loaded, text.tokenizer, sorted(ends), chat))


def _by_transformers(model: Any, tokenizer: Any, ends: list[int], chat: Chat) -> Replies:
    import torch
    from transformers import GenerationConfig, TextIteratorStreamer

    # transformers lays a model's own generation settings over those that are given: penalties, another temperature.
    model.generation_config = GenerationConfig()
    how: dict[str, Any] = {"do_sample": False}
    if chat.temperature:
        how = {"do_sample": True, "temperature": chat.temperature, "top_p": chat.top_p}

    def replies(ids: list[int], most: int) -> Iterator[Told]:
        config = GenerationConfig(max_new_tokens=most, eos_token_id=ends, pad_token_id=ends[0] if ends else 0, **how)
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        made: list[Any] = []

        def generate() -> None:
            try:
                given = torch.tensor([ids], device=model.device)
                made.append(model.generate(given, generation_config=config, streamer=streamer))
            except (RuntimeError, ValueError) as error:  # out of memory, a broken weight
                made.append(error)
                streamer.end()

        thread = Thread(target=generate)
        thread.start()
        yield from ({"text": piece} for piece in streamer if piece)
        thread.join()
        if isinstance(made[0], Exception):
            yield {"error": str(made[0]).splitlines()[0]}
        else:
            yield {"end": "stop" if int(made[0][0, -1]) in ends else "length"}

    return replies


def main(spec_file: str) -> int:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what an engine prints is no answer

    def tell(what: dict[str, Any]) -> None:
        answers.write(json.dumps(what, ensure_ascii=False) + "\n")
        answers.flush()

    try:
        chat = read_typed(Chat, Path(spec_file))
        quiet()
        talkers = {model.name: load(model, chat) for model in chat.spec.models}
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    tell({"ready": list(talkers)})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            for piece in talkers[asked["model"]].reply(asked["messages"]):
                tell(piece)
        except BadRow as error:  # a template that does not take such turns
            tell({"error": str(error)})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
