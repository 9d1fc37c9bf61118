"""Text of others on a terminal shows its control characters, and does nothing by them."""

from __future__ import annotations

import pytest

from recipes.visible import visible, visible_log


@pytest.mark.parametrize(
    "text,shown",
    [
        ("plain, Größe, 中文, é, 😀, \t tab", "plain, Größe, 中文, é, 😀, \t tab"),
        ("\x1b]52;c;ZXZpbA==\x07", "\\x1b]52;c;ZXZpbA==\\x07"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\u202etxt.exe", "a\\u202etxt.exe"),
        ("bell\x07 \x9b31m \x7f", "bell\\x07 \\x9b31m \\x7f"),
    ],
)
def test_control_and_bidi_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(visible(text)) == visible(text)


def test_a_log_loses_its_colours_and_keeps_its_words() -> None:
    assert visible_log("\x1b[31mred\x1b[0m\rnext\r\nlast\x1b]0;title\x07\n") == "red\nnext\nlast\\x1b]0;title\\x07\n"
