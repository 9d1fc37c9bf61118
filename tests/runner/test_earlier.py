"""`recipe eval RUN --suites X` adds to what was measured before, and says where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.report.results import read_results
from eval.spec import Model
from recipes.typed import write_typed
from runner.scoring.earlier import earlier_results, with_earlier
from tests.eval import made

FIRST = {"perplexity": made.measure(9.0), "test_loss": made.measure(2.2), "qmsum.rougeL": made.measure(0.2)}


def after(tmp_path: Path, about: dict[str, Any], **metrics: float) -> tuple[list[str], list[str]]:
    """The metrics and suites that are kept, and what was said."""
    write_typed(tmp_path / "results.json", made.results(FIRST, made.provenance(suites=("perplexity", "qmsum"))))
    earlier, said = earlier_results(tmp_path), []
    new = {name: made.measure(value) for name, value in metrics.items()}
    write_typed(tmp_path / "results.json", made.results(new, about))
    whole = with_earlier(Model(name="tuned", path="m", output=tmp_path), earlier, said.append)
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
    assert "are of another model or engine, and are left out" in said[0]


def test_a_suite_of_lm_eval_is_added_whatever_asked_it(tmp_path: Path) -> None:
    """It says of itself what engine that was; the engine that is told stays that of the suites of our own."""
    about = made.provenance(suites=("lm_eval:gsm8k",))
    about["engine"] = {"engine": "vllm"}
    kept, said = after(tmp_path, about, **{"lm_eval:gsm8k.acc": 0.5})
    assert set(kept) == {"perplexity", "test_loss", "qmsum.rougeL", "lm_eval:gsm8k.acc", "qmsum", "lm_eval:gsm8k"}
    assert said == [] and read_results(tmp_path).provenance.engine["engine"] == "transformers"


def test_of_another_engine_only_suites_of_lm_eval_stay(tmp_path: Path) -> None:
    earlier = made.provenance(suites=("perplexity", "lm_eval:gsm8k"))
    had = {"perplexity": made.measure(9.0), "lm_eval:gsm8k.acc": made.measure(0.5)}
    new = made.provenance(suites=("generation",))
    new["engine"]["engine"] = "vllm"
    write_typed(tmp_path / "results.json", made.results({"generation.tokens": made.measure(3.0)}, new))
    said: list[str] = []
    model = Model(name="tuned", path="m", output=tmp_path)
    whole = with_earlier(model, made.results(had, earlier), said.append)
    assert set(whole.metrics) == {"lm_eval:gsm8k.acc", "generation.tokens"}
    assert "the earlier perplexity are of another model or engine" in said[0]
    assert whole.provenance.engine["engine"] == "vllm"


def test_there_may_be_none(tmp_path: Path) -> None:
    assert earlier_results(tmp_path) is None
