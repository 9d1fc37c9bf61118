"""Perplexity and test loss over the reply tokens of validation rows, with the ids and loss mask of training.

Rows of plain text are read whole, in windows of the longest sequence that the recipe and the model allow; all of a
window's tokens but its first are scored.

Example row: {"messages": [{"role": "user", "content": "What is a bond?"}, {"role": "assistant", "content": "A loan."}]}
"""

from __future__ import annotations

from pathlib import Path

from eval.encode import IGNORE, BadRow, Encoded, Text
from eval.engines.cache import Answer
from eval.engines.requests import Score
from eval.hashes import file_hash, json_hash
from eval.rows import Row, conversation, is_document, rows_file, rows_of
from eval.spec import Spec
from eval.statistics import Measure, perplexity, ratio
from eval.suites import Loaded, Record, Sample, Values, answered
from eval.suites.truncate import cut_note
from recipes.documents import Documents
from recipes.errors import UserError


def load(spec: Spec, text: Text, max_positions: int) -> Loaded:
    file = rows_file(spec, "perplexity")
    rows = rows_of(file, "perplexity", spec.max_samples)
    # As in training: all replies of a conversation, but only the last of a preference.
    limit = min(spec.max_length, max_positions)
    if is_document(rows[0]):
        return _documents(rows, file, limit, text)
    conversations = [(n, messages) for n, row in enumerate(rows) if (messages := conversation(row))]
    if not conversations:
        raise UserError(f"{file}: perplexity: no row has a reply to score")
    last_only = spec.train_on == "last_turn" or "messages" not in rows[0]
    encoded = text.encoder.encode([messages for _, messages in conversations], last_only=last_only)
    samples = [_sample(str(n), item, limit) for (n, _), item in zip(conversations, encoded, strict=True)]
    notes = cut_note(samples, limit, spec.max_length)
    settings = {"max_length": limit if notes else spec.max_length, "last_turn_only": last_only, "n": len(samples)}
    data = {"path": file, "hash": file_hash(Path(str(file))), "used": json_hash(rows)}
    return Loaded(samples=samples, data=data, settings=settings, notes=notes)


def _sample(name: str, encoded: Encoded | BadRow, max_length: int) -> Sample:
    if isinstance(encoded, BadRow):
        return Sample(id=name, problem=str(encoded))
    cut = encoded.cut(max_length)
    if not any(label >= 0 for label in cut.labels[1:]):
        return Sample(id=name, problem=f"no reply token within {max_length} tokens")
    request = Score(ids=cut.ids, labels=cut.labels)
    return Sample(id=name, requests=(request,), shown={"truncated": len(encoded.ids) > max_length})


def _documents(rows: list[Row], file: str | None, limit: int, text: Text) -> Loaded:
    """Samples of plain text.

    Raises:
        UserError: the tokenizer cannot end a text.
    """
    try:
        encoded = Documents(text.tokenizer).encode([row["text"] for row in rows])
    except BadRow as error:
        raise UserError(f"perplexity: {error}") from None
    samples = [_windows(str(n), item, limit) for n, item in enumerate(encoded)]
    data = {"path": file, "hash": file_hash(Path(str(file))), "used": json_hash(rows)}
    return Loaded(samples=samples, data=data, settings={"window": limit, "n": len(samples)})


def _windows(name: str, encoded: Encoded | BadRow, length: int) -> Sample:
    if isinstance(encoded, BadRow):
        return Sample(id=name, problem=str(encoded))
    pieces = [encoded.ids[start : start + length] for start in range(0, len(encoded.ids), length)]
    requests = [Score(ids=ids, labels=[IGNORE, *ids[1:]]) for ids in pieces if len(ids) > 1]
    return Sample(id=name, requests=tuple(requests), problem="" if requests else "no token to score")


def record(sample: Sample, answers: list[Answer]) -> Record:
    return {**sample.shown, **{key: sum(answer[key] for answer in answers) for key in ("nll", "tokens")}}


def measures(records: list[Record], seed: int) -> dict[str, Measure]:
    good, failures = answered(records)
    nll, tokens = [r["nll"] for r in good], [float(r["tokens"]) for r in good]
    loss = ratio(nll, tokens, failures=failures, seed=seed, implementation="sum(nll)/sum(reply tokens), nats")
    name = "exp(sum(nll)/sum(reply tokens))"
    ppl = ratio(nll, tokens, failures=failures, seed=seed, transform=perplexity, implementation=name)
    return {"perplexity": ppl, "test_loss": loss}


def values(metric: str) -> Values | None:
    return Values(key="nll", better="lower", weight="tokens")
