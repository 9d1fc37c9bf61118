"""`recipe eval RUN --suites X` adds to what was measured before, and says where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.report.compare import unlike
from eval.report.results import Entry, Results, read_results
from eval.spec import Model
from recipes.typed import read_typed, write_typed
from runner.scoring.earlier import earlier_results, with_earlier
from tests.eval import made

FIRST = {"perplexity": made.measure(9.0), "test_loss": made.measure(2.2), "qmsum.rougeL": made.measure(0.2)}


def after(tmp_path: Path, about: dict[str, Any], **metrics: float) -> tuple[list[str], list[str]]:
    """The metrics and suites that are kept, and what was said."""
    write_typed(tmp_path / "results.json", made.results(FIRST, made.provenance(suites=("perplexity", "qmsum"))))
    said: list[str] = []
    model = Model(name="tuned", path="m", output=tmp_path)
    earlier = earlier_results(model, said.append)
    new = {name: made.measure(value) for name, value in metrics.items()}
    write_typed(tmp_path / "results.json", made.results(new, about))
    whole = with_earlier(model, earlier, said.append)
    assert read_results(tmp_path) == whole
    return [*whole.metrics, *whole.provenance.suites], said


def test_another_suite_is_added(tmp_path: Path) -> None:
    kept, said = after(tmp_path, made.provenance(suites=("generation",)), **{"generation.tokens": 3.0})
    assert set(kept) == {"perplexity", "test_loss", "qmsum.rougeL", "generation.tokens", "qmsum", "generation"}
    assert said == []


def test_a_suite_that_is_asked_again_is_replaced_and_fewer_samples_are_told(tmp_path: Path) -> None:
    kept, said = after(tmp_path, made.provenance(suites=("perplexity",), n=2), perplexity=8.0)
    assert sorted(kept) == ["perplexity", "perplexity", "qmsum", "qmsum.rougeL"]
    assert said == ["note: tuned: perplexity: 2 samples replace the 26 of an earlier evaluation"]


def test_results_of_another_model_are_not_mixed(tmp_path: Path) -> None:
    kept, said = after(tmp_path, made.provenance(name="other", suites=("generation",)), **{"generation.tokens": 3.0})
    assert kept == ["generation.tokens", "generation"]
    assert "are of another model; kept as" in said[0]
    assert read_typed(Results, tmp_path / "results.1.json").metrics == FIRST


def test_answers_of_another_engine_stay_and_are_known_for_what_they_are(tmp_path: Path) -> None:
    about = made.provenance(suites=("perplexity",))
    about["engine"] |= {"engine": "vllm"}
    kept, said = after(tmp_path, about, perplexity=8.0)
    whole = read_results(tmp_path).provenance
    assert "qmsum.rougeL" in kept and said == []
    assert [whole.engine_of(suite)["engine"] for suite in ("qmsum", "perplexity")] == ["transformers", "vllm"]
    plain = made.results(FIRST, made.provenance(suites=("perplexity", "qmsum")))
    one, other = (Entry(name=name, results=r) for name, r in (("a", plain), ("b", read_results(tmp_path))))
    assert unlike("qmsum.rougeL", one, other) == ()
    assert unlike("perplexity", one, other) == ("engine is 'transformers' and 'vllm'",)


def test_a_killed_evaluation_costs_nothing(tmp_path: Path) -> None:
    model = Model(name="tuned", path="m", output=tmp_path)
    write_typed(tmp_path / "results.json", made.results(FIRST, made.provenance(suites=("perplexity", "qmsum"))))
    earlier_results(model, print)
    new = {"generation.tokens": made.measure(3.0)}
    write_typed(tmp_path / "results.json", made.results(new, made.provenance(suites=("generation",))))
    # Killed here; a third suite is asked by the next one.
    earlier = earlier_results(model, print)
    write_typed(tmp_path / "results.json", made.results({"x": made.measure(1.0)}, made.provenance(suites=("x",))))
    assert with_earlier(model, earlier, print).metrics.keys() == {*FIRST, *new, "x"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json"]


def test_what_cannot_be_read_is_kept(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{")
    said: list[str] = []
    assert earlier_results(Model(name="tuned", path="m", output=tmp_path), said.append) is None
    assert (tmp_path / "results.1.json").read_text() == "{" and "not the results of an evaluation" in said[0]


def test_there_may_be_none(tmp_path: Path) -> None:
    assert earlier_results(Model(name="tuned", path="m", output=tmp_path), print) is None
