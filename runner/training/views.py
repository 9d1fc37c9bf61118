"""What `recipe data` shows: a row with its loss mask, and what a check found, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from recipes.methods import METHODS
from recipes.types import Data
from recipes.visible import visible
from runner.data.asked import SHOWN
from runner.data.formats import OF_CLASSES
from runner.data.inspected import Asked, Checked, Part, Preview
from runner.training.prepare import not_read

GREEN, PLAIN = "\x1b[32m", "\x1b[0m"
LIMITS = tuple(512 << n for n in range(7))  # tokens, 512 to 32,768
BAR = 40  # characters


def preview_text(found: Preview, *, colour: bool, ids: bool, marks: Mapping[int, str] | None = None) -> str:
    """The row's text, what has loss in green or between ⟦ and ⟧; control characters are shown, not done.

    Args:
        ids: list the tokens too.
        marks: said of tokens of the first part, by their place.
    """
    cut = "; cut to data.max_length" if found.truncated else ""
    lines = [f"training row {found.row} ({visible(found.place)}){cut}"]
    for number, part in enumerate(found.parts):
        name = f"{part.name}: " if part.name else ""
        lines += ["", f"{name}{len(part.ids):,} tokens, {sum(part.loss):,} with loss", ""]
        lines.append("".join(_marked(span.text, span.loss, colour) for span in part.spans))
        lines += ["", *_table(part, {} if number else marks or {})] if ids else []
    lines += ["", *(text for one in found.asked for text in _difference(one))] if found.asked else []
    lines += ["", *(f"note: {visible(note)}" for note in found.notes)] if found.notes else []
    lines += [f"problem in another row: {visible(text)}" for text in found.problems]
    return "\n".join(lines)


def _difference(one: Asked) -> Iterator[str]:
    """Whether a reply is trained behind what a model is asked by, and if not, where that begins."""
    begin = f"turn {one.turn}{f' of {one.name}' if one.name else ''}: before its reply, "
    if one.problem:
        yield f"{begin}a model cannot be asked: {visible(one.problem)}"
    elif one.equal:
        yield f"{begin}trained and asked at inference are equal: {len(one.asked):,} tokens"
    else:
        lengths = f"trained ({len(one.trained):,} tokens) and asked ({len(one.asked):,})"
        yield f"{begin}{lengths} differ from token {one.at + 1:,} on:"
        for name, ids, text in (("trained", one.trained, one.trained_text), ("asked", one.asked, one.asked_text)):
            numbers = " ".join(map(str, ids[one.at : one.at + SHOWN]))
            yield f"  {name:<8}{numbers or 'nothing more'}  {visible(repr(text)) if text else ''}".rstrip()


def _marked(text: str, loss: bool, colour: bool) -> str:
    if not loss:
        return visible(text)
    return f"{GREEN}{visible(text)}{PLAIN}" if colour else f"⟦{visible(text)}⟧"


def _table(part: Part, marks: Mapping[int, str]) -> Iterator[str]:
    for place, (number, loss, piece) in enumerate(zip(part.ids, part.loss, part.pieces, strict=True)):
        mark = f"  <- {marks[place]}" if place in marks else ""
        yield f"{number:>8}  {'loss' if loss else '    '}  {visible(repr(piece))}{mark}"


def check_text(found: Checked) -> str:
    """What a check found, in the order in which one needs it."""
    formats = ", ".join(dict.fromkeys(found.formats.values())) or "not told"
    lines = [
        f"format: {formats} (for method: {found.method})",
        f"rows: {found.rows:,} = {found.usable:,} usable + {found.bad:,} that cannot be used"
        + "".join(f" + {n:,} dropped ({reason})" for reason, n in found.dropped.items()),
        *found.problems,
    ]
    if found.bad > len(found.problems):
        lines.append(f"… and {found.bad - len(found.problems):,} more (--problems N shows N)")
    lines += [f"reading ended there: {text}" for text in found.broken]
    if found.duplicates:
        lines += [f"duplicates: {found.duplicates:,} rows that came before", *(f"  {text}" for text in found.repeats)]
    else:
        lines.append("duplicates: none")
    lines += [f"scored by: {text}" for text in found.contaminated]
    if others := not_read(found.left_out):
        lines.append(others)
    if found.unused_columns:
        lines.append(f"not used: {_counts(found.unused_columns)}")
        if found.method == "pretrain" and "label" in found.unused_columns:
            lines.append(f"  a label is nothing to learn of plain text; {OF_CLASSES}")
    if found.languages:
        lines.append(f"languages of the replies (a guess): {_counts(found.languages)}")
    lines += [f"note: {note}: {count:,} rows" for note, count in found.notes.items()]
    lines += [f"note: {text}" for text in found.unseen]
    lengths = {int(length): count for length, count in found.lengths.items()}
    lines += _lengths(lengths, found.tokens)
    if METHODS[found.method].rows.chat:  # documents are cut into blocks
        lines += _overlong(lengths)
    return visible("\n".join(lines))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def percentile(lengths: Mapping[int, int], share: float) -> int:
    """The smallest length that at least this share of the rows does not exceed (nearest rank)."""
    wanted, seen, last = share * sum(lengths.values()), 0, 0
    for last in sorted(lengths):
        seen += lengths[last]
        if seen >= wanted:
            break
    return last


def _lengths(lengths: Mapping[int, int], tokens: int) -> Iterator[str]:
    if not lengths:
        return
    p50, p95 = percentile(lengths, 0.5), percentile(lengths, 0.95)
    yield f"tokens: {tokens:,} in all; of a row p50 {p50:,}, p95 {p95:,}, max {max(lengths):,}"
    bins: dict[int, int] = {}
    for length, count in lengths.items():
        top = 1 << max(5, (length - 1).bit_length())
        bins[top] = bins.get(top, 0) + count
    most = max(bins.values())
    top = min(bins)
    while top <= max(bins):
        count = bins.get(top, 0)
        yield f"  up to {top:>7,}  {count:>9,}  {'█' * round(BAR * count / most)}".rstrip()
        top *= 2


def _overlong(lengths: Mapping[int, int]) -> Iterator[str]:
    if not lengths:
        return
    over = {limit: sum(count for length, count in lengths.items() if length > limit) for limit in LIMITS}
    total = sum(lengths.values())
    yield "longer than data.max_length, which data.overlong: drop leaves out:"
    for limit, count in over.items():
        yield f"  {limit:>7,}  {count:>9,}  {count / total:.1%}"
        if not count:
            break


def refusal(found: Checked, data: Data | None) -> str:
    """Why nothing could be trained on these rows, or an empty text; `data` is the recipe's, where there is one."""
    if found.broken:
        return "nothing could be trained: a file cannot be read to its end"
    if data and found.bad and data.on_bad_row == "error":
        return f"nothing could be trained: {found.bad:,} rows cannot be used; mend them, or set data.on_bad_row: drop"
    if not found.usable:
        return "nothing could be trained: no row can be used"
    within = sum(count for length, count in found.lengths.items() if data and int(length) <= data.max_length)
    cut = data and (data.overlong in ("truncate", "middle") or found.method in ("pretrain", "grpo"))
    if data and found.lengths and not within and not cut:
        return f"nothing could be trained: every row is longer than data.max_length, {data.max_length:,} tokens"
    return ""
