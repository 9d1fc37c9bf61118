"""Records that are no longer what an evaluation wrote are named by file and line, and never compared."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import worker
from eval.encode import Text
from eval.report.compare import compare
from eval.report.results import read_entry, write_results
from eval.spec import Model, Spec
from eval.suites import Loaded, Sample
from recipes.errors import UserError
from recipes.typed import write_typed
from tests.eval.fakes import RuleEngine, text
from tests.eval.made import measure, provenance, results

ROWS = [{"id": str(n), "truncated": False, "nll": 20.0 + n, "tokens": 10} for n in range(6)]


def written(directory: Path, rows: list[dict[str, Any]], name: str = "tuned") -> Path:
    directory.mkdir()
    write_typed(directory / "results.json", results({"test_loss": measure(2.3, n=6)}, provenance(name, n=6)))
    (directory / "perplexity.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


no_numbers = st.sampled_from([math.nan, math.inf, -math.inf]) | st.text() | st.lists(st.integers(), max_size=2)
no_ids = st.none() | st.integers() | st.lists(st.text(), max_size=1)
damages = st.one_of(
    st.tuples(st.sampled_from(["nll", "tokens"]), no_numbers),
    st.tuples(st.just("id"), no_ids),
)


@given(at=st.integers(0, 5), damage=damages)
def test_a_damaged_record_is_named_by_its_line(
    at: int, damage: tuple[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One NaN among the values gave a difference that is shown, with p = 0."""
    key, value = damage
    rows = [row | ({key: value} if n == at else {}) for n, row in enumerate(ROWS)]
    directory = written(tmp_path_factory.mktemp("one") / "eval", rows)
    with pytest.raises(UserError) as caught:
        read_entry(directory, "x")
    assert f"perplexity.jsonl:{at + 1}: {key} is " in str(caught.value)


def test_an_id_that_stands_twice_is_two_samples_no_more(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"perplexity\.jsonl:7: id '2' stands twice, first in line 3"):
        read_entry(written(tmp_path / "eval", [*ROWS, ROWS[2]]), "x")


def test_what_failed_and_what_has_no_value_is_left_out_as_before(tmp_path: Path) -> None:
    rows = [{"id": "0", "error": "too long"}, ROWS[1] | {"nll": None}, *ROWS[2:]]
    one, other = (read_entry(written(tmp_path / name, rows, name), name) for name in ("a", "b"))
    (row,) = compare(one, other)
    assert row.paired is not None and row.paired.n == 4 and row.paired.ties == 4


def test_ids_that_stand_twice_in_the_data_are_refused_before_any_is_asked() -> None:
    loaded = Loaded(samples=[Sample(id="a"), Sample(id="b")], data={"path": "rows.jsonl"}, settings={})
    worker._check_ids("longbench", loaded)
    with pytest.raises(UserError, match=r"rows\.jsonl: longbench: 1 ids stand twice, such as 'b'"):
        worker._check_ids("longbench", replace(loaded, samples=[*loaded.samples, Sample(id="b")]))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "x\0", "\ud800", "x" * 300, "perplexity\n"])
def test_a_suite_names_a_file_beside_its_results_and_no_other(tmp_path: Path, name: str) -> None:
    """A received run's file names the suites, and their records are opened by these names."""
    directory = written(tmp_path / "eval", ROWS)
    (tmp_path / "secret.jsonl").write_text("not yours\n")
    content = json.loads((directory / "results.json").read_text())
    content["provenance"]["suites"][name] = content["provenance"]["suites"]["perplexity"]
    (directory / "results.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"results\.json: .*: provenance\.suites: .* names no file of records"):
        read_entry(directory, "x")


KILLED = """
import json, os, signal, sys
from pathlib import Path
from eval.report import results
results.write_typed = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
results.write_results(Path(sys.argv[1]), results.read_results(Path(sys.argv[1])), json.loads(sys.argv[2]))
"""


def test_records_of_a_killed_evaluation_are_not_taken_for_those_of_the_results(tmp_path: Path) -> None:
    """A paired test over them would be on other data than the values that are shown."""
    directory = tmp_path / "eval"
    write_results(directory, results({"test_loss": measure(2.3, n=6)}), {"perplexity": ROWS})
    before = (directory / "results.json").read_bytes()
    assert read_entry(directory, "x").records == {"perplexity": ROWS}
    others = json.dumps({"perplexity": [row | {"nll": 1.0} for row in ROWS]})
    child = subprocess.run([sys.executable, "-c", KILLED, str(directory), others], check=False)
    assert child.returncode == -signal.SIGKILL and (directory / "results.json").read_bytes() == before
    with pytest.raises(UserError, match=r"perplexity\.jsonl: not the records of the numbers in results\.json"):
        read_entry(directory, "x")
    write_results(directory, results({"test_loss": measure(0.1, n=6)}), json.loads(others))
    assert read_entry(directory, "x").records["perplexity"][0]["nll"] == 1.0


class Failing(RuleEngine):
    """An engine that dies of its second suite."""

    def generate(self, requests: Any) -> Any:
        raise MemoryError


def test_an_evaluation_that_fails_leaves_the_earlier_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows.jsonl"
    spec = Spec(models=(), suites=("perplexity", "generation"), rows=str(rows))
    files = SimpleNamespace(
        directory=tmp_path, base=None, tokenizer=tmp_path, value_head=None, hash=lambda: "m", max_positions=lambda: 999
    )
    monkeypatch.setattr(worker, "load_text", lambda *_: text())
    monkeypatch.setattr(Text, "identity", lambda self: {"tokenizer": "t", "template": "c"})

    def evaluated(engine: RuleEngine, reply: str) -> dict[str, str]:
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": reply}]
        rows.write_text(json.dumps({"messages": turns}) + "\n")
        monkeypatch.setattr(worker, "engine_module", lambda name: SimpleNamespace(load=lambda *_: engine))
        model = Model(name="m", path="m", output=tmp_path / "out")
        worker._score(model, files, spec)  # type: ignore[arg-type]
        return {path.name: path.read_text() for path in model.output.glob("*.json*")}

    whole = evaluated(RuleEngine(), "a")
    assert whole.keys() == {"results.json", "perplexity.jsonl", "generation.jsonl"}
    with pytest.raises(MemoryError):
        evaluated(Failing(), "b" * 9)
    assert {name: (tmp_path / "out" / name).read_text() for name in whole} == whole
    read_entry(tmp_path / "out", "m")
    assert evaluated(RuleEngine(), "b" * 9)["perplexity.jsonl"] != whole["perplexity.jsonl"]
