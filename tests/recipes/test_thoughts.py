"""How many tokens of thinking carry loss: with one token a character, and one for each pair of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.encode import IGNORE, Encoded, Encoder
from tests.eval.fakes import CharacterTokenizer
from tests.recipes.tokens import Batch

TEXT = st.text("abc .<", min_size=1, max_size=12).map(lambda text: text.strip()).filter(bool)
REPLY = st.fixed_dictionaries({"thought": st.none() | TEXT, "beside": st.booleans(), "said": TEXT})


class PairTokenizer(CharacterTokenizer):
    """One token for each two characters."""

    def __call__(self, texts: list[str], **_: Any) -> Batch:
        spans = [[(n, min(n + 2, len(t))) for n in range(0, len(t), 2)] for t in texts]
        return Batch([[ord(t[a]) for a, _ in each] for t, each in zip(texts, spans, strict=True)], spans)

    def convert_ids_to_tokens(self, number: int) -> str:
        return chr(number)


class ThinkingEncoder(Encoder):
    """Writes `[a]<think>…</think>reply|`, as Qwen's template does."""

    def render(self, messages: Sequence[Any], *, reply_next: bool = False) -> str:
        turns = [
            f"[{m['role'][0]}]"
            + f"<think>{m.get('reasoning_content')}</think>" * ("reasoning_content" in m)
            + m["content"]
            for m in messages
        ]
        return "".join(f"{turn}|" for turn in turns) + "[a]" * reply_next


def encoded(replies: list[dict[str, Any]], tokenizer: Any, last_only: bool) -> Encoded:
    messages = []
    for number, reply in enumerate(replies):
        inside = f"<think>{reply['thought']}</think>" * bool(reply["thought"] and not reply["beside"])
        turn = {"role": "assistant", "content": inside + reply["said"]}
        if reply["thought"] and reply["beside"]:
            turn["reasoning_content"] = reply["thought"]
        messages += [{"role": "user", "content": f"question {number}"}, turn]
    (found,) = ThinkingEncoder(tokenizer, None, {}).encode([messages], last_only=last_only)
    assert isinstance(found, Encoded), found
    return found


@settings(deadline=None)
@given(st.lists(REPLY, min_size=1, max_size=3), st.booleans())
def test_thinking_with_loss_is_counted(replies: list[dict[str, Any]], last_only: bool) -> None:
    found = encoded(replies, CharacterTokenizer(), last_only)
    counted = replies[-1:] if last_only else replies
    assert found.thought == sum(len(reply["thought"] or "") for reply in counted)
    text = "".join(chr(label) if label != IGNORE else "\0" for label in found.labels)
    assert found.thought == sum(map(len, re.findall(r"<think>(.*?)</think>", text)))
    half = len(found.ids) // 2
    inside = {n for first, last in found.thoughts for n in range(first, last)}
    assert found.cut(half).labels == found.labels[:half]
    assert found.cut(half).thought == sum(label != IGNORE for n, label in enumerate(found.labels[:half]) if n in inside)


@settings(deadline=None)
@given(st.lists(REPLY, min_size=1, max_size=3))
def test_tokens_are_counted_where_replies_are_tokenized_apart(replies: list[dict[str, Any]]) -> None:
    found = encoded(replies, PairTokenizer(), last_only=False)
    most = sum(len(reply["thought"] or "") // 2 + 1 for reply in replies if reply["thought"])
    least = sum(len(reply["thought"] or "") // 2 for reply in replies)
    assert least <= found.thought <= most


@settings(deadline=None)
@given(TEXT, TEXT, st.booleans())
def test_thinking_has_one_mask_however_it_is_spelled(thought: str, said: str, asked: bool) -> None:
    """Also where the generation prompt is another, as Qwen3's is with `enable_thinking: false`."""

    class Closed(ThinkingEncoder):
        def render(self, messages: Sequence[Any], *, reply_next: bool = False) -> str:
            return super().render(messages, reply_next=reply_next) + "<think></think>" * (reply_next and asked)

    kinds = ({"content": f"<think>{thought}</think>{said}"}, {"content": said, "reasoning_content": thought})
    masks = []
    for reply in kinds:
        messages = [{"role": "user", "content": "question"}, {"role": "assistant", **reply}]
        (found,) = Closed(CharacterTokenizer(), None, {}).encode([messages], last_only=False)
        assert isinstance(found, Encoded)
        masks.append("".join(chr(label) for label in found.labels if label != IGNORE))
    assert masks[0] == masks[1] == f"<think>{thought}</think>{said}|"
