"""The suites that read validation rows and test prompts: what they ask, record and measure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from eval.engines.ask import ask
from eval.engines.cache import AnswerCache
from eval.engines.requests import Score
from eval.spec import Spec
from eval.suites import Sample, suite
from recipes.errors import UserError
from tests.eval.fakes import RuleEngine, text

TURN = '{"role": "user", "content": "x"}'


def _spec(**fields: Any) -> Spec:
    return Spec(models=(), suites=(), **fields)


def _write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _chat(*turns: str) -> list[dict[str, str]]:
    return [{"role": "user" if n % 2 == 0 else "assistant", "content": turn} for n, turn in enumerate(turns)]


def test_perplexity_scores_the_reply_and_its_end(tmp_path: Path) -> None:
    rows = _write(tmp_path / "rows.jsonl", [{"messages": _chat("ab", "cd", "e", "f")}])
    (sample,) = suite("perplexity").load(_spec(rows=rows), text(), 1000).samples
    (request,) = sample.requests
    assert isinstance(request, Score)
    assert "".join(chr(label) for label in request.labels if label > 0) == "cd|f|"


@pytest.mark.parametrize("name", ["perplexity", "preference"])
@pytest.mark.parametrize(
    ("max_length", "positions", "kept", "note"),
    [
        (1000, 1000, 50, None),
        (30, 1000, 30, "1 of 2 are cut to 30 tokens (--max-length, or data.max_length of the recipe, sets it)"),
        (1000, 30, 30, "1 of 2 are cut to 30 tokens (the model takes no more)"),
        (30, 30, 30, "1 of 2 are cut to 30 tokens (--max-length, or data.max_length of the recipe, sets it)"),
    ],
)
def test_a_row_that_is_too_long_is_cut_and_counted(
    tmp_path: Path, name: str, max_length: int, positions: int, kept: int, note: str | None
) -> None:
    """To what the recipe says or the model takes: a row is not lost for its length."""
    rows = [
        {"prompt": _chat("q"), "chosen": [{"role": "assistant", "content": "a" * n}],
         "rejected": [{"role": "assistant", "content": "b"}]}
        for n in (2, 41)
    ]  # fmt: skip
    spec = _spec(rows=_write(tmp_path / "rows.jsonl", rows), max_length=max_length)
    loaded = suite(name).load(spec, text(), positions)
    assert [sample.shown["truncated"] for sample in loaded.samples] == [False, note is not None]
    assert max(len(request.ids) for sample in loaded.samples for request in sample.requests) == kept
    assert loaded.notes == ((note,) if note else ())
    assert loaded.settings["max_length"] == (kept if note else max_length)


HALF = "cut \ud83d"


@pytest.mark.parametrize("name", ["perplexity", "preference", "generation", "reference"])
@pytest.mark.parametrize("where", ["prompt", "chosen"])
def test_half_a_character_costs_its_row_alone(tmp_path: Path, name: str, where: str) -> None:
    """JSON can write it and no tokenizer reads it."""
    good = {"prompt": _chat("q")} | {p: [{"role": "assistant", "content": p}] for p in ("chosen", "rejected")}
    bad = good | {where: [{"role": "user" if where == "prompt" else "assistant", "content": HALF}]}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (bad, good)))
    samples = suite(name).load(_spec(rows=str(path)), text(), 1000).samples
    assert ["half" in sample.problem for sample in samples] == [True, False]
    assert bool(samples[1].requests) and not samples[0].requests


def test_train_on_last_turn_scores_the_last_reply(tmp_path: Path) -> None:
    rows = _write(tmp_path / "rows.jsonl", [{"messages": _chat("ab", "cd", "e", "f")}])
    (sample,) = suite("perplexity").load(_spec(rows=rows, train_on="last_turn"), text(), 1000).samples
    assert sum(r.tokens for r in sample.requests if isinstance(r, Score)) == 2


def test_perplexity_over_rows(tmp_path: Path) -> None:
    """exp(Σnll / Σtokens), with rows that cannot be scored as failures and cut ones marked."""
    rows = [{"messages": _chat("q", "yes")}, {"messages": _chat("q" * 50, "no")}, {"messages": _chat("q", "z" * 40)}]
    spec = _spec(rows=_write(tmp_path / "rows.jsonl", rows), max_length=20)
    loaded = suite("perplexity").load(spec, text(), 1000)
    records = [
        {"error": s.problem} if s.problem else suite("perplexity").record(s, [{"nll": 2.0 * n + 1, "tokens": n + 4}])
        for n, s in enumerate(loaded.samples)
    ]
    assert [r.get("truncated") for r in records] == [False, None, True]
    measured = suite("perplexity").measures(records, 42)
    assert measured["perplexity"].value == pytest.approx(math.exp((1 + 5) / (4 + 6)))
    assert (measured["perplexity"].n, measured["perplexity"].failures) == (2, 1)
    assert measured["test_loss"].value == pytest.approx(0.6)


def test_perplexity_of_preferences_is_of_the_chosen_and_of_labels_of_the_good(tmp_path: Path) -> None:
    dpo = {"prompt": _chat("q"), "chosen": [{"role": "assistant", "content": "good"}],
           "rejected": [{"role": "assistant", "content": "bad"}]}  # fmt: skip
    kto = [
        {"prompt": _chat("q"), "completion": [{"role": "assistant", "content": "x"}], "label": b} for b in (True, False)
    ]
    for n, (rows, expected) in enumerate([([dpo], ["good|"]), (kto, ["x|"])]):
        loaded = suite("perplexity").load(_spec(rows=_write(tmp_path / f"{n}.jsonl", rows)), text(), 1000)
        scored = [r.labels for s in loaded.samples for r in s.requests if isinstance(r, Score)]
        assert ["".join(chr(label) for label in labels if label > 0) for labels in scored] == expected


def test_preference_is_by_mean_loss_per_reply_token(tmp_path: Path) -> None:
    """A longer reply with a larger sum may still be the preferred one."""
    row = {"prompt": _chat("q"), "chosen": [{"role": "assistant", "content": "long reply"}],
           "rejected": [{"role": "assistant", "content": "no"}]}  # fmt: skip
    module = suite("preference")
    (sample,) = module.load(_spec(rows=_write(tmp_path / "r.jsonl", [row])), text(), 1000).samples
    record = module.record(sample, [{"nll": 11.0, "tokens": 11}, {"nll": 6.0, "tokens": 3}])
    assert (record["chosen_loss"], record["rejected_loss"], record["correct"]) == (1.0, 2.0, True)
    measured = module.measures([record, {"error": "out of memory"}], 42)
    values = {name.removeprefix("preference."): m.value for name, m in measured.items()}
    assert values == {
        "accuracy": 1,
        "correct": 1,
        "total": 1,
        "avg_chosen_loss": 1,
        "avg_rejected_loss": 2,
        "margin": 1,
    }
    assert all(m.failures == 1 for m in measured.values())


def test_preference_of_a_reward_model_is_by_its_score_of_the_whole_reply(tmp_path: Path) -> None:
    """Equal scores are no preference, and a longer reply is asked to its last token."""
    rows = [
        {"prompt": _chat("q"), **{name: [{"role": "assistant", "content": said}] for name, said in pair.items()}}
        for pair in (
            {"chosen": "long reply", "rejected": "no"},
            {"chosen": "so", "rejected": "no"},
            {"chosen": "x", "rejected": "no"},
        )
    ]
    module = suite("preference")
    loaded = module.load(_spec(rows=_write(tmp_path / "r.jsonl", rows), reward=True), text(), 1000)
    asked = [[request.ids for request in sample.requests] for sample in loaded.samples]
    assert asked[0] == [[ord(c) for c in f"[u]q|[a]{said}|"] for said in ("long reply", "no")]
    answers = ask(loaded.samples, RuleEngine(), AnswerCache(tmp_path / "answers.jsonl", {}), "x")
    records = [module.record(sample, given) for sample, given in zip(loaded.samples, answers, strict=True)]
    assert [r["correct"] for r in records] == [True, False, False]
    values = {name.removeprefix("preference."): m.value for name, m in module.measures(records, 42).items()}
    assert values == {
        "accuracy": pytest.approx(1 / 3),
        "correct": 1,
        "total": 3,
        "avg_chosen_score": pytest.approx((1.9 + 1.1 + 1.0) / 3),
        "avg_rejected_score": pytest.approx(1.1),
        "score_margin": pytest.approx((0.8 + 0 - 0.1) / 3),
    }
    for name in (name for name in values if name not in ("correct", "total")):
        assert module.values(f"preference.{name}").key in records[0]  # type: ignore[union-attr]


def test_generation_takes_the_test_prompts(tmp_path: Path) -> None:
    prompts = tmp_path / "p.json"
    prompts.write_text(json.dumps([{"prompt": _chat("hi"), "reference": "yo", "held_out": True}]))
    (sample,) = suite("generation").load(_spec(test_prompts=str(prompts)), text(), 1000).samples
    assert "".join(map(chr, sample.requests[0].ids)) == "[u]hi|[a]"
    record = suite("generation").record(sample, [{"text": "a b c d a b c d", "tokens": 8, "finished": False}])
    assert record["repeated"] == pytest.approx(1 / 5)
    assert record["reference"] == "yo"


def test_generation_falls_back_on_the_rows(tmp_path: Path) -> None:
    rows = _write(tmp_path / "r.jsonl", [{"messages": _chat("q", "a")}, {"prompt": _chat("2+2"), "answer": "4"}])
    samples = suite("generation").load(_spec(rows=rows, max_generation_samples=2), text(), 1000).samples
    assert [s.shown["reference"] for s in samples] == ["a", "4"]


@pytest.mark.parametrize("name", ["perplexity", "preference", "generation", "reference"])
def test_a_suite_with_data_of_its_own_asks_those(tmp_path: Path, name: str) -> None:
    """Each is given its own, and the run's rows and test prompts beside them."""
    rows = {
        kind: {"prompt": _chat(kind)} | {p: [{"role": "assistant", "content": p}] for p in ("chosen", "rejected")}
        for kind in ("own", "other")
    }
    own, other = (_write(tmp_path / f"{kind}.jsonl", [row]) for kind, row in rows.items())
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([{"prompt": _chat("other"), "reference": "x"}]))
    spec = _spec(rows=other, test_prompts=str(prompts), data={name: own})
    loaded = suite(name).load(spec, text(), 1000)
    assert "[u]own|" in "".join(map(chr, loaded.samples[0].requests[0].ids))
    assert loaded.data["path"] == own


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("perplexity", None, "no rows"),
        ("perplexity", f'{{"prompt": [{TURN}], "answer": "4"}}', "no row has a reply"),
        ("perplexity", "[1]", r"1: expected a JSON object, got \[1\]"),
        ("perplexity", "{", "1: not JSON"),
        ("perplexity", "[" * 99999, "1: not JSON"),
        ("perplexity", "", "no rows"),
        ("preference", f'{{"messages": [{TURN}]}}', "no row has chosen and rejected"),
        ("generation", None, "no prompts"),
    ],
)
def test_missing_or_malformed_rows_are_named(tmp_path: Path, name: str, rows: str | None, message: str) -> None:
    path = None
    if rows is not None:
        path = str(tmp_path / "rows.jsonl")
        Path(path).write_text(rows)
    with pytest.raises(UserError, match=message):
        suite(name).load(_spec(rows=path), text(), 1000)


@pytest.mark.parametrize("name", ["perplexity", "preference", "generation", "reference"])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "x"}', 'expected messages, or prompt with .*; got a row with "text"'),
        (f'{{"prompt": [{TURN}]}}', 'expected messages, or prompt with .*; got a row with "prompt"'),
        ("{}", "expected messages, or prompt with .*; got an empty row"),
        ('{"messages": []}', r"`messages`: expected a list of messages, got \[\]"),
        ('{"messages": null}', "`messages`: expected a list of messages, got null"),
        ('{"messages": "hi"}', '`messages`: expected a list of messages, got "hi"'),
        ('{"messages": [{"role": "user"}]}', "`messages`: expected messages with role and content as texts"),
        ('{"messages": [{"role": "user", "content": null}]}', "with role and content as texts"),
        ('{"messages": [null]}', "with role and content as texts, got null"),
        ('{"messages": ["hi"]}', 'with role and content as texts, got "hi"'),
        (f'{{"prompt": [{TURN}], "chosen": [{TURN}]}}', "`rejected`: expected a list of messages, got null"),
        (f'{{"prompt": "x", "chosen": [{TURN}], "rejected": [{TURN}]}}', "`prompt`: expected a list of messages"),
        (f'{{"prompt": [{TURN}], "completion": [{TURN}]}}', "`label`: expected true or false, got null"),
        (f'{{"prompt": [{TURN}], "answer": null}}', "`answer`: expected a text, got null"),
    ],
)
def test_each_malformed_row_is_named_by_its_line(tmp_path: Path, name: str, row: str, message: str) -> None:
    """Blank lines count, and all that are wrong are named at once."""
    path = tmp_path / "rows.jsonl"
    good = {"prompt": [{"role": "user", "content": "q"}]} | {
        part: [{"role": "assistant", "content": part}] for part in ("chosen", "rejected")
    }
    path.write_text(f"{json.dumps(good)}\n\n{row}\n  \n{row}\n{json.dumps(good)}\n")
    with pytest.raises(UserError, match=rf"rows.jsonl:3: {name}: .*{message}") as caught:
        suite(name).load(_spec(rows=str(path)), text(), 1000)
    assert [(p.line, p.file) for p in caught.value.problems] == [(3, str(path)), (5, str(path))]
    path.write_text(f"{json.dumps(good)}\n")
    assert len(suite(name).load(_spec(rows=str(path)), text(), 1000).samples) == 1


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ('{"prompt": []}', "p.json: generation: expected a list of objects with prompt"),
        ('[{"text": "x"}]', 'item 1: generation: expected an object with prompt, got {"text": "x"}'),
        (f'[{{"prompt": [{TURN}]}}, {{"prompt": "x"}}]', "item 2: generation: `prompt`: expected a list of messages"),
        (
            f'[{{"prompt": [{TURN}], "reference": 15}}]',
            "item 1: generation: `reference`: expected a text or null, got 15",
        ),
        ("[", "p.json: not JSON"),
        ("\udce9", "p.json: not UTF-8"),
    ],
)
def test_malformed_test_prompts_are_named(tmp_path: Path, prompts: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(prompts.encode(errors="surrogateescape"))
    with pytest.raises(UserError) as caught:
        suite("generation").load(_spec(test_prompts=str(path)), text(), 1000)
    assert message in str(caught.value)


def test_equal_requests_are_asked_once_and_finished_ones_never_again(tmp_path: Path) -> None:
    request = Score(ids=[1, 2], labels=[-100, 2])
    samples = [Sample(id=str(n), requests=(request,)) for n in range(3)]
    engine = RuleEngine()
    for _ in range(2):
        answers = ask(samples, engine, AnswerCache(tmp_path / "c.jsonl", {}), "x")
        assert answers == [[{"nll": 0.02, "tokens": 1}]] * 3
    assert engine.asked == 1


def test_a_model_without_a_template_can_still_be_asked_plain_text() -> None:
    assert text(template=False).ids("ab") == [97, 98]
    with pytest.raises(UserError, match="no chat template"):
        _ = text(template=False).encoder
