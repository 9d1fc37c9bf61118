"""Which language a reply is likely in: by its script, and for Latin script by the commonest words of seven languages.

A rough count for a first look at a file, not a classifier: a short reply may well be of a language that it does not
tell ("Latin script, not told apart").
"""

from __future__ import annotations

import re
from collections import Counter

SCRIPTS = (
    ("Japanese", "\u3040-\u30ff"),
    ("Korean", "\uac00-\ud7af\u1100-\u11ff"),
    ("Chinese", "\u4e00-\u9fff\u3400-\u4dbf"),
    ("Cyrillic script", "\u0400-\u04ff"),
    ("Greek", "\u0370-\u03ff"),
    ("Arabic script", "\u0600-\u06ff"),
    ("Hebrew", "\u0590-\u05ff"),
    ("Devanagari script", "\u0900-\u097f"),
    ("Thai", "\u0e00-\u0e7f"),
    ("Latin script", "A-Za-z\u00c0-\u024f"),
)
WORDS = {
    "English": "the of and to is that for with was are this it you",
    "German": "der die das und ist nicht ein eine mit von zu auf für den",
    "French": "le la les et est des une dans pour qui pas vous du",
    "Spanish": "el los las y es del una por con para que como su",
    "Italian": "il gli di che è per una con sono della non nel",
    "Portuguese": "o os de que é do da em um uma não para com",
    "Dutch": "de het een en van is niet dat op te voor met zijn",
}
UNTOLD, NO_WORDS = "Latin script, not told apart", "no words"
_COUNTED = tuple((name, re.compile(f"[{letters}]")) for name, letters in SCRIPTS)
_LISTS = {name: frozenset(words.split()) for name, words in WORDS.items()}
LOOKED_AT = 2000  # characters


def language(text: str) -> str:
    """The likely language of a text, or its script."""
    head = text[:LOOKED_AT]
    counts = Counter({name: len(pattern.findall(head)) for name, pattern in _COUNTED})
    if not counts.total():
        return NO_WORDS
    # Japanese has Chinese characters too; its own are what tells it.
    if counts["Japanese"] * 10 >= counts["Chinese"] > 0:
        counts["Japanese"] += counts.pop("Chinese")
    script = max(counts, key=lambda name: counts[name])
    if script != "Latin script":
        return script
    words = Counter(re.findall(r"[^\W\d_]+", head.lower()))
    found = {name: sum(words[word] for word in known) for name, known in _LISTS.items()}
    best, *others = sorted(found.values(), reverse=True)
    return max(found, key=lambda name: found[name]) if best > max(others) else UNTOLD
