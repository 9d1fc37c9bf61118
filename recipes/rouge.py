"""Words of any script, and ROUGE over them: the one definition for GRPO's rewards and for the suites.

Of ASCII text, words and values are those of the package rouge_score without stemmer, to the last digit; that package
reads nothing but a-z and 0-9, and finds nothing alike in Chinese. Standard library only, as the trainer's workers need.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from recipes.lcs import lcs_length

CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}]+")  # Chinese, Japanese and Korean have no spaces: a character is a word


def words(text: str) -> list[str]:
    """The words of a text in any script, with width and case folded: 'STRASSE' and 'Straße' are one word."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F1 (Lin, 2004): the longest common subsequence of words, against both lengths; 0 without words."""
    mine, other = words(prediction), words(reference)
    return _f1(lcs_length(mine, other) if mine and other else 0, len(mine), len(other))


def rouge_n(prediction: str, reference: str, n: int) -> float:
    """ROUGE-N F1: the n-grams of words that both have, each as often as both have it."""
    mine, other = (_grams(words(text), n) for text in (prediction, reference))
    return _f1((mine & other).total(), mine.total(), other.total())


def _grams(tokens: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[k : k + n]) for k in range(len(tokens) - n + 1))


def _f1(same: int, mine: int, other: int) -> float:
    if not same:
        return 0.0
    precision, recall = same / mine, same / other
    return 2 * precision * recall / (precision + recall)  # in this order, so that it is rouge_score's last digit too


def of_another_script(text: str) -> bool:
    """Whether most words of a text are such as rouge_score cannot read: neither in Latin letters nor in digits."""
    found = words(text)
    unread = sum(not word[0].isascii() and not unicodedata.name(word[0], "").startswith("LATIN") for word in found)
    return 2 * unread > len(found)
