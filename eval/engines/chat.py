"""Talks: a conversation a line on stdin, the next reply of each model on stdout in pieces, as they are made.

Usage: python -m eval.engines.chat SPEC.json, inside the evaluation environment. A line of stdin is {"model": its name,
"messages": [...]}; lines of stdout are {"text": …} until {"end": "stop" | "length"}, or {"error": …} in its place. The
first line says {"ready": [names]}. Replies are greedy, without penalties, as evaluations have them, unless the spec's
`temperature` says otherwise.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

from eval.encode import Text, load_text
from eval.engines.directory import locate
from eval.engines.greedy import end_tokens
from eval.engines.loading import load_model
from eval.spec import Chat
from eval.worker import quiet
from recipes.encode import BadRow
from recipes.errors import UserError
from recipes.typed import read_typed


class Talker:
    """A model that answers conversations in its own chat template."""

    def __init__(self, model: Any, text: Text, positions: int, chat: Chat) -> None:
        self.model, self.text, self.positions, self.chat = model, text, positions, chat
        tokenizer = text.tokenizer
        ends = end_tokens(getattr(model, "generation_config", None), model.config, tokenizer, text.turn_ends)
        self.ends = sorted(ends)

    def reply(self, messages: list[dict[str, str]]) -> Iterator[dict[str, str]]:
        """The pieces of the next reply, and how it ended."""
        import torch
        from transformers import GenerationConfig, TextIteratorStreamer

        ids = self.text.chat_ids(messages)
        room = min(self.chat.max_new_tokens, self.positions - len(ids))
        if room < 1:
            yield {"error": f"the conversation has {len(ids)} tokens, and the model {self.positions} positions: /reset"}
            return
        how: dict[str, Any] = {"do_sample": False}
        if self.chat.temperature:
            how = {"do_sample": True, "temperature": self.chat.temperature, "top_p": self.chat.top_p}
        config = GenerationConfig(
            max_new_tokens=room, eos_token_id=self.ends, pad_token_id=self.ends[0] if self.ends else 0, **how
        )
        streamer = TextIteratorStreamer(self.text.tokenizer, skip_prompt=True, skip_special_tokens=True)
        made: list[Any] = []

        def generate() -> None:
            try:
                given = torch.tensor([ids], device=self.model.device)
                made.append(self.model.generate(given, generation_config=config, streamer=streamer))
            except (RuntimeError, ValueError) as error:  # out of memory, a broken weight
                made.append(error)
                streamer.end()

        # transformers lays a model's own generation settings over these: penalties, another temperature.
        self.model.generation_config = GenerationConfig()
        thread = Thread(target=generate)
        thread.start()
        yield from ({"text": piece} for piece in streamer if piece)
        thread.join()
        if isinstance(made[0], Exception):
            yield {"error": str(made[0]).splitlines()[0]}
        else:
            yield {"end": "stop" if int(made[0][0, -1]) in self.ends else "length"}


def main(spec_file: str) -> int:
    try:
        chat = read_typed(Chat, Path(spec_file))
        quiet()
        talkers: dict[str, Talker] = {}
        for model in chat.spec.models:
            files = locate(model)
            text = load_text(files.tokenizer, chat.spec.asking)
            text.encoder  # noqa: B018 - a model without a template is refused before it is loaded
            talkers[model.name] = Talker(load_model(model, files, chat.spec), text, files.max_positions(), chat)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    _tell({"ready": list(talkers)})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            for piece in talkers[asked["model"]].reply(asked["messages"]):
                _tell(piece)
        except BadRow as error:  # a template that does not take such turns
            _tell({"error": str(error)})
    return 0


def _tell(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what, ensure_ascii=False) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
