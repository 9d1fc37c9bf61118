"""The replies that are kept of a preparation, against a search in the rendered text; what differs is told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recipes.encode import IGNORE
from runner.data.replies import Reply, _replies
from runner.runs.tokens import differences

TURN = st.text("ab", min_size=1, max_size=4)


@given(st.lists(st.tuples(TURN, TURN), min_size=1, max_size=4), st.booleans())
def test_before_each_reply_stands_what_was_rendered_before_it(pairs: list[tuple[str, str]], last_only: bool) -> None:
    """Characters are tokens, and a question is `?words!`."""
    messages, ids, labels, expected = [], "", [], []
    for n, (question, reply) in enumerate(pairs):
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
        ids += f"?{question}!"
        labels += [IGNORE] * (len(ids) - len(labels))
        if not last_only or n == len(pairs) - 1:
            expected.append((2 * n + 2, ids))
            labels += list(map(ord, f"{reply}."))
        ids += f"{reply}."
        labels += [IGNORE] * (len(ids) - len(labels))
    found = list(_replies(1, messages, list(map(ord, ids)), labels, last_only=last_only))
    assert [(reply.turn, "".join(map(chr, reply.ids))) for reply in found] == expected
    assert [reply.messages for reply in found] == [tuple(messages[: turn - 1]) for turn, _ in expected]


def test_the_first_token_that_differs_is_told() -> None:
    reply = Reply(row=2, turn=4, messages=(), ids=(1, 2, 3))
    assert differences([reply], [[1, 2, 3]]) == []
    (longer,) = differences([reply], [[1, 2, 3, 4]])
    assert longer.at == 3
    (other,) = differences([reply], [[1, 9]])
    assert str(other) == "row 2, turn 4: token 2 of 3: trained behind [2, 3], asked by [9]"
