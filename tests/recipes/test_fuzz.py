"""2,000 damaged recipes: each is either still a recipe or an error with a place; never anything else."""

from __future__ import annotations

import random
from pathlib import Path

from recipes import UserError, catalogue, load_text

COUNT = 2000
SEEDS = [path.read_bytes() for path in catalogue().values()]
WORDS = rb"[ { ] } : - &a *a !! | > ' % @ ` ~ null 1e999 -.inf .nan 0x 0o9 __ \" ?"
JUNK = [*WORDS.split(), b": ", b"- ", b"\t", b"\x00", b"\xff", b"\xf0\x9f", b"<<: *a"]
WORDS = b"null true [] {} -1 1e400 '' abc [[1]] {a:1} 2026-01-01 *x !!x"
VALUES = [*WORDS.split(), b"{a: 1}", b"9" * 400, b"!!int x", b"!!binary =", b"&x 1"]


def damaged(text: bytes, chance: random.Random) -> bytes:
    """A recipe with one to four mutations: dropped, doubled, retyped, misspelt, nested or binary."""
    for _ in range(chance.randint(1, 4)):
        lines = text.split(b"\n")
        n = chance.randrange(len(lines))
        kind = chance.randrange(8)
        if kind == 0:
            del lines[n]
        elif kind == 1:
            lines.insert(n, lines[n])
        elif kind == 2:
            lines[n] = lines[n].partition(b":")[0] + b": " + chance.choice(VALUES)
        elif kind == 3 and lines[n]:
            place = chance.randrange(len(lines[n]))
            lines[n] = lines[n][:place] + bytes([chance.randrange(256)]) + lines[n][place + 1 :]
        elif kind == 4:
            lines[n] = b" " * chance.randint(1, 5) + lines[n]
        elif kind == 5:
            place = chance.randint(0, len(lines[n]))
            lines[n] = lines[n][:place] + chance.choice(JUNK) + lines[n][place:]
        elif kind == 6:
            lines[n] = lines[n] + b" " + b"[" * chance.choice([1, 30, 3000])
        else:
            lines[n] = chance.randbytes(chance.randint(1, 30))
        text = b"\n".join(lines) or b"x"
    return text


def test_a_damaged_recipe_never_gives_a_traceback() -> None:
    chance, refused = random.Random(20), 0
    for _ in range(COUNT):
        text = damaged(chance.choice(SEEDS), chance)
        try:
            load_text(text, Path("fuzz.yaml"), sources_needed=False)
        except UserError as error:
            refused += 1
            assert error.problems, text
            for problem in error.problems:
                assert problem.file == "fuzz.yaml" and problem.text, (problem, text)
                assert problem.line, (problem, text)
    assert refused > COUNT / 2
