"""A pass over rows: each is kept, dropped and counted, or refused; with a tokenizer of one id a character."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.suites.longbench_prompts import definitions
from recipes.schema import schema, with_defaults
from recipes.typed import from_json, to_json
from runner.data.contamination import Scored
from runner.data.passes import Preparation, Stop
from runner.data.row import BadData
from runner.data.spec import PrepareSpec, source_of
from tests.eval.fakes import CharacterTokenizer, PlainEncoder

MODEL = {"path": "m", "revision": None, "trust_remote_code": False, "chat_template": None, "chat_template_kwargs": {}}


def preparation(directory: Path, method: str = "sft", scored: Scored | None = None, **data: Any) -> Preparation:
    given = {"train": [to_json(source_of(directory / "rows.jsonl", **data.pop("source", {})))], **data}
    spec = from_json(
        PrepareSpec,
        {
            "method": method, "model": MODEL, "directory": str(directory), "max_length": data.get("max_length", 400),
            "data": with_defaults(given, schema()["properties"]["data"]),
            "needs_answer": "exact" if method == "grpo" else "",
        },
    )  # fmt: skip
    return Preparation(spec, PlainEncoder(CharacterTokenizer(), None, {}), scored)


def passed(directory: Path, rows: list[Any], **fields: Any) -> tuple[Preparation, list[Any]]:
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one = preparation(directory, **fields)
    return one, list(one.rows(one.data.train))


def row(n: int, words: int = 3) -> dict[str, str]:
    return {"instruction": f"question {n}", "output": "word " * words}


KINDS = {
    "good": lambda n: row(n),
    "long": lambda n: row(n, 200),
    "bad": lambda n: {"instruction": f"question {n}", "output": None},
    "torn": lambda n: n,
    "tests": lambda n: {"instruction": f"{n} What did the group decide about the price of the remote?", "output": "x"},
    "again": lambda n: row(0),
    "thought": lambda n: {"instruction": f"question {n}", "output": "<think>hm</think>word word word "},
}
QUESTION = "what did the group decide about the price"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=30), st.booleans(), st.booleans())
def test_every_row_is_kept_or_counted(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], drops: bool, dedup: bool
) -> None:
    rows = [row(999), *(KINDS[kind](n + 1) for n, kind in enumerate(kinds))]
    scored = Scored({"qmsum": [QUESTION]})
    fields = {"on_bad_row": "drop", "contamination": "drop" if drops else "warn", "dedup": "exact" if dedup else None}
    one, kept = passed(tmp_path_factory.mktemp("pass"), rows, scored=scored, thinking="drop", **fields)
    count = Counter(kinds)
    again = max(0, count["again"] - 1) if dedup else 0
    expected = {
        "duplicate of an earlier row": again, "longer than max_length": count["long"],
        "malformed: output is empty": count["bad"],
        "malformed: a row must be a mapping, not int": count["torn"],
    }  # fmt: skip
    told = "contamination: holds a question or reference of the suite qmsum, by which the recipe is scored"
    expected[told] = count["tests"] if drops else 0
    assert dict(one.dropped) == {reason: number for reason, number in expected.items() if number}
    assert len(kept) + one.dropped.total() == one.rows_in.total() == len(rows)
    assert one.notes[told] == (0 if drops else count["tests"])
    assert one.notes["the thinking of its replies is taken out (data.thinking: drop)"] == count["thought"]
    for canonical, (encoded,), cut in kept:
        reply = canonical["messages"][-1]["content"]
        assert "<think>" not in reply and not cut
        assert "".join(chr(i) for i in encoded.labels if i >= 0) == f"{reply}|"


def test_the_files_of_one_source_are_each_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row(n)) + "\n" for n in (1, 2)))
    (tmp_path / "b.csv").write_text("instruction,output\nquestion 3,yes\nquestion 4,\n")
    paths = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.csv")]
    one = preparation(tmp_path, on_bad_row="drop")
    asked = [found["messages"][0]["content"] for found, _, _ in one.rows([source_of(paths)])]
    assert asked == ["question 1", "question 2", "question 3"]
    assert dict(one.rows_in) == {", ".join(paths): 4} and dict(one.files) == dict.fromkeys(paths, 2)
    with pytest.raises(Stop, match=r"^[^,]*b\.csv:3: output is empty$"):
        list(preparation(tmp_path).rows([source_of(paths)]))


class Counting(PlainEncoder):
    encoded = 0

    def encode(self, conversations: Any, *, last_only: bool) -> Any:
        self.encoded += len(conversations)
        return super().encode(conversations, last_only=last_only)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["sft", "kto", "dpo"]), st.integers(0, 10**6), st.integers(2, 900))
def test_a_late_row_is_found_without_encoding_those_before_it(
    tmp_path_factory: pytest.TempPathFactory, method: str, chance: int, rows: int
) -> None:
    directory = tmp_path_factory.mktemp("late")
    given = [
        row(n, words=200 if n % 7 == 3 else 3)
        if method == "sft"
        else {"prompt": f"q{n // 2}", "chosen": f"good {n}", "rejected": f"bad {n}" * (150 if n % 7 == 3 else 1)}
        for n in range(rows)
    ]
    _, kept = passed(directory, given, method=method)
    numbers = []
    again = preparation(directory, method)
    for found in again.rows(again.data.train):
        assert found == kept[len(numbers)]
        numbers.append(again.number)
    wanted = chance % len(kept)
    late = preparation(directory, method)
    late.encoder = counting = Counting(CharacterTokenizer(), None, {})
    (found,) = (f for f in late.rows_around(late.data.train, numbers[wanted]) if late.number == numbers[wanted])
    assert found == kept[wanted]
    assert counting.encoded <= 256 * (1 if method == "sft" else 2)


def test_near_scores_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completions": ["a", "b"], "scores": [0, n]} for n in (1, 2, 3)]
    one, kept = passed(tmp_path, rows, method="dpo", source={"min_margin": 2})
    assert len(kept) == 2 and dict(one.dropped) == {"scores that differ by less than min_margin": 1}


def test_near_duplicates_are_counted_apart(tmp_path: Path) -> None:
    text = "word " * 3 + " ".join(f"another{n}" for n in range(50))
    rows = [{"instruction": "q", "output": text}, {"instruction": "q", "output": text},
            {"instruction": "q", "output": text.replace("another0", "Another, 0?")}, row(2)]  # fmt: skip
    one, kept = passed(tmp_path, rows, dedup="near", max_length=4000)
    assert len(kept) == 2
    assert dict(one.dropped) == {"duplicate of an earlier row": 1, "nearly a duplicate of an earlier row": 1}
    one, kept = passed(tmp_path, rows, dedup="near", dedup_threshold=0.99, max_length=4000)
    assert dict(one.dropped) == {"duplicate of an earlier row": 1}


def test_what_is_refused_is_named_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(Stop) as stop:
        passed(tmp_path, [row(1), [2], row(3, 200), {"instruction": "q"}], overlong="error")
    assert {text.partition(": ")[0].rpartition(":")[2] for text in stop.value.problems} == {"2", "3", "4"}


def test_the_middle_of_the_longest_turn_goes(tmp_path: Path) -> None:
    text = "".join(chr(ord("a") + n % 26) for n in range(900))
    one, ((canonical, (encoded,), cut),) = passed(
        tmp_path, [{"instruction": text, "output": "Yes."}], overlong="middle", max_length=101
    )
    said = canonical["messages"][0]["content"]
    half = len(said) // 2
    assert cut and len(encoded.ids) <= 101 and len(said) > 80
    assert said == text[:half] + text[-half:] and canonical["messages"][1]["content"] == "Yes."
    one, kept = passed(tmp_path, [{"instruction": "q", "output": "x" * 200}], overlong="middle", max_length=50)
    assert kept == [] and dict(one.dropped) == {"longer than max_length": 1}


def test_pairs_are_two_examples_for_kto(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(300)]  # over two chunks
    one, kept = passed(tmp_path, rows, method="kto")
    assert len(kept) == one.rows_in.total() == 600
    for place, (canonical, (own, other), _) in enumerate(kept):
        assert canonical["label"] == (place % 2 == 0)
        texts = ["".join(map(chr, encoded.ids)) for encoded in (own, other)]
        assert texts[0] == f"[u]q{place // 2}|[a]{'bad' if place % 2 else 'good'} {place // 2}|"
        assert texts[1].startswith(f"[u]q{place // 2}|") and not texts[1].endswith(f" {place // 2}|")


def test_one_row_is_no_feedback(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="kto needs at least 2 rows"):
        passed(tmp_path, [{"prompt": "q", "completion": "a", "label": True}], method="kto")


def test_prompts_need_an_answer_where_a_reward_looks_at_it(tmp_path: Path) -> None:
    with pytest.raises(Stop, match=r"rows.jsonl:2: no answer, which the reward exact looks at"):
        passed(tmp_path, [{"prompt": "q", "answer": "4"}, {"prompt": "q"}], method="grpo")


LONGBENCH = {"input": "Who?", "context": "Ann won.", "answers": ["Ann", "Ann W."], "all_classes": None, "length": 3}


def test_longbench_is_asked_by_its_own_prompts(tmp_path: Path) -> None:
    directory = tmp_path / "lb"
    directory.mkdir()
    line = json.dumps(LONGBENCH) + "\n"
    for name in ("qasper", "hotpotqa", "qasper_e"):
        (directory / f"{name}.jsonl").write_text(line)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as packed:
        packed.writestr("data/hotpotqa.jsonl", "\n" + line)
    for path, fields, expected in (
        (directory, {}, [("hotpotqa", "Ann"), ("qasper", "Ann")]),
        (directory, {"subsets": ["qasper"], "answers": "all"}, [("qasper", "Ann"), ("qasper", "Ann W.")]),
        (tmp_path / "data.zip", {}, [("hotpotqa", "Ann")]),
    ):
        one = preparation(tmp_path, max_length=20_000)
        source = source_of(path, format="longbench", **fields)
        turns = [[turn["content"] for turn in row["messages"]] for row, _, _ in one.rows([source])]
        asked = {name: definitions()[0][name].format(**LONGBENCH) for name, _ in expected}
        assert turns == [[asked[name], answer] for name, answer in expected]
        assert one.unused == Counter()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", ":1: not JSON"),
        ("[1]", ":1: a row must be a mapping"),
        (json.dumps({**LONGBENCH, "answers": None}), ":1: `answers`: expected a list of texts"),
        (json.dumps({**LONGBENCH, "answers": [" "]}), ":1: answers: the reference is empty"),
        (json.dumps({**LONGBENCH, "answers": []}), ":1: answers: the reference is empty"),
    ],
)
def test_a_row_of_longbench_that_cannot_be_learned_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "trec").mkdir()
    (tmp_path / "hotpotqa.jsonl").write_text(text + "\n")
    one = preparation(tmp_path)
    with pytest.raises(Stop, match=message):
        list(one.rows([source_of(tmp_path / "hotpotqa.jsonl", format="longbench")]))


def test_longbench_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "no <subset>.jsonl"), ("acme/nothing", "LongBench on the Hub is THUDM/LongBench")):
        with pytest.raises(BadData, match=message):
            list(preparation(tmp_path).rows([source_of(path, format="longbench")]))
