"""Suites of lm-evaluation-harness, with local tasks: lm-eval's own command line says the same to the last digit."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.machine import process
from tests.real.conftest import Recipe, _ensure, inside
from tests.real.test_eval_thinking import TEMPLATE
from tests.real.test_eval_worker import ADAPTER, _environment

pytestmark = pytest.mark.real

WORDS = ["bond", "share", "loan", "bank", "coin", "rent", "cash", "debt", "fund", "rate", "risk", "cost"]

POSITIONS = 256

CHOICE = """
task: words_mc
dataset_path: json
dataset_kwargs: {data_files: {test: words.jsonl}}
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "Which word names money that is {{kind}}?\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list:
  - {metric: acc}
  - {metric: acc_norm}
  - {metric: exact_match}
metadata: {version: 2.0}
"""
# The likelihood of one continuation; of one row with more context than the model has positions (POSITIONS).
LIKELIHOOD = """
task: words_next
dataset_path: json
dataset_kwargs: {data_files: {test: words.jsonl}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{text * 40 if letter == 'e' else choices[0]}}"
doc_to_target: " {{choices[1]}}"
metric_list: [{metric: perplexity}, {metric: acc}]
"""
GENERATION = """
task: words_gen
dataset_path: json
dataset_kwargs: {data_files: {test: words.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "Write a word like {{choices[0]}}:"
doc_to_target: "{{letter}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 8, do_sample: false}
filter_list:
  - name: first-letter
    filter:
      - {function: regex, regex_pattern: "([A-Za-z])"}
      - {function: take_first}
  - name: last-letter
    filter:
      - {function: regex, regex_pattern: "([A-Za-z])", group_select: -1}
      - {function: take_first}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
metadata: {version: 1.5}
"""
ROLLING = """
task: words_ppl
dataset_path: json
dataset_kwargs: {data_files: {test: words.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
"""
GROUP = """
group: words
task: [words_half, words_mean]
aggregate_metric_list:
  - {metric: acc, weight_by_size: %s}
"""


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Task files with their rows; of the group's two tasks the one has half of the rows."""
    directory = tmp_path_factory.mktemp("tasks")
    rows = [
        {"kind": "lent" if n % 2 else "owned", "choices": [w, WORDS[n - 1], WORDS[n - 5]], "answer": n % 3,
         "letter": "etaoinshrdlu"[n], "text": f"A {w} is not a {WORDS[n - 3]}. " * (1 + n % 4)}
        for n, w in enumerate(WORDS)
    ]  # fmt: skip
    (directory / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "half.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:6]))
    for name, text in {"mc": CHOICE, "gen": GENERATION, "ppl": ROLLING, "next": LIKELIHOOD}.items():
        (directory / f"words_{name}.yaml").write_text(text)
    (directory / "words_mean.yaml").write_text(CHOICE.replace("words_mc", "words_mean"))
    (directory / "words_half.yaml").write_text(CHOICE.replace("words_mc", "words_half").replace("words.", "half."))
    (directory / "words.yaml").write_text(GROUP % "true")
    (directory / "means.yaml").write_text((GROUP % "false").replace("group: words", "group: means"))
    return directory


def spec(directory: Path, model: Path, suites: list[str], base: Path | None = None, **fields: Any) -> Path:
    """Of a model, or of an adapter after its base, which the same worker scores first."""
    models = [{"name": "m", "path": str(model), "base": base and str(base), "output": str(directory / "out")}]
    if base:
        models.insert(0, {"name": "base", "path": str(base), "output": str(directory / "out" / "base")})
    path = directory / "spec.json"
    path.write_text(json.dumps({"models": models, "suites": suites, "device": "cpu"} | fields))
    return path


def worker(python: Path, path: Path, *options: str, code: int = 0) -> str:
    command = [*process.wrapped(), str(python), "-m", "eval.suites.lm_eval.worker", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), cwd=path.parent, check=False)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr


def results(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / "results.json").read_text()))


def records(directory: Path, suite: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / f"lm_eval.{suite}.jsonl").read_text().splitlines()]


def command_line(python: Path, where: Path, model_args: str, tasks: list[str], *options: str) -> Mapping[str, Any]:
    """What lm-eval's own command says, started where the data of the task files lie."""
    out = where / "cli" / os.urandom(4).hex()
    command = [str(python), "-m", "lm_eval", "run", "--model", "hf", "--model_args", model_args, "--device", "cpu"]
    command += ["--tasks", ",".join(tasks), "--output_path", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), cwd=where, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = out.rglob("results_*.json")
    return dict(json.loads(file.read_text())["results"])


def numbers(found: Mapping[str, Any], task: str) -> dict[str, float]:
    return {
        key.removesuffix(",none"): value for key, value in found[task].items() if "," in key and "_stderr" not in key
    }


def ours(found: Mapping[str, Any], task: str) -> dict[str, float]:
    start = f"lm_eval:{task}."
    return {k.removeprefix(start): m["value"] for k, m in found["metrics"].items() if k.startswith(start)}


NAMES = ["words_mc", "words_gen", "words_ppl"]


def test_numbers_are_those_of_the_command_line_to_the_last_digit(
    lm_python: Path, eval_python: Path, tiny_model: Path, tasks: Path, tmp_path: Path
) -> None:
    """Choices, replies through two filters and rolling likelihoods; a chat template, examples, a system prompt, an
    adapter and a limit."""
    adapter, short = tmp_path / "adapter", shutil.copytree(tiny_model, tmp_path / "short")
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": POSITIONS}))
    inside(eval_python, ADAPTER, str(short), str(adapter), cwd=tmp_path)
    how = {"num_fewshot": 2, "system": "Be brief.", "generation": {"max_gen_toks": 6}, "batch": 4}
    suites = [f"lm_eval:{tasks / name}.yaml" for name in (*NAMES, "words_next")]
    path = spec(tmp_path, adapter, suites, base=short, lm_eval=how, max_samples=10)
    worker(lm_python, path)
    theirs = command_line(
        lm_python, tasks, f"pretrained={short},peft={adapter},dtype=float32",
        [f"{name}.yaml" for name in (*NAMES, "words_next")],
        *("--num_fewshot", "2", "--system_instruction", "Be brief.", "--apply_chat_template", "--limit", "10"),
        *("--gen_kwargs", "max_gen_toks=6", "--batch_size", "4"),
    )  # fmt: skip
    found = results(tmp_path / "out")
    assert {name: ours(found, name) for name in NAMES} == {name: numbers(theirs, name) for name in NAMES}
    # Not in the same batches as lm-eval's, whose float32 rounds otherwise by their shape.
    assert ours(found, "words_next") == pytest.approx(numbers(theirs, "words_next"), rel=1e-5)
    cache = tmp_path / "out/cache/lm_eval.jsonl"
    kept_answers = cache.read_bytes()
    cache.write_bytes(kept_answers[: len(kept_answers) // 2])  # as if it had been killed in the middle
    again = worker(lm_python, path)
    assert re.search(r"m: [1-9]\d* of \d+ requests were answered before", again)
    assert results(tmp_path / "out")["metrics"] == found["metrics"]
    base = results(tmp_path / "out" / "base")
    assert all(abs(ours(base, "words_ppl")[key] - value) > 1e-3 for key, value in ours(found, "words_ppl").items())
    assert 0 < found["metrics"]["lm_eval:words_mc.acc"]["value"] < 1
    for name in NAMES:
        for key, value in numbers(theirs, name).items():
            error = theirs[name][(key if "," in key else f"{key},none").replace(",", "_stderr,", 1)]
            if isinstance(error, float):  # of means, by formula
                assert found["metrics"][f"lm_eval:{name}.{key}"]["se"] == pytest.approx(error, rel=1e-9)
            measure = found["metrics"][f"lm_eval:{name}.{key}"]
            assert measure["n"] == 10 and measure["ci95"][0] <= value <= measure["ci95"][1]
    told = found["provenance"]["suites"]
    assert told["lm_eval:words_mc"]["settings"]["version"] == 2.0 and told["lm_eval:words_gen"]["settings"]["n"] == 10
    assert told["lm_eval:words_ppl"]["settings"]["lower_is_better"]
    kept = records(tmp_path / "out", "words_mc")
    assert statistics.fmean(r["acc"] for r in kept) == found["metrics"]["lm_eval:words_mc.acc"]["value"]
    assert all("Be brief." in r["prompt"] and r["prompt"].count("<|im_start|>user") == 3 for r in kept)
    assert all(r["output"].strip() in r["doc"]["choices"] for r in kept)
    assert all(r["prompt"].count("Write a word like") == 3 for r in records(tmp_path / "out", "words_gen"))


@pytest.mark.slow
def test_a_group_has_lm_evals_mean_and_is_paired_only_where_it_is_one_of_samples(
    lm_python: Path, tiny_model: Path, tasks: Path, tmp_path: Path
) -> None:
    names = ["words", "means"]
    how = {"chat_template": False}
    worker(lm_python, spec(tmp_path, tiny_model, [f"lm_eval:{tasks / name}.yaml" for name in names], lm_eval=how))
    theirs = [
        command_line(lm_python, tasks, f"pretrained={tiny_model},dtype=float32", [name],
                     "--batch_size", "8", "--include_path", str(tasks))
        for name in names
    ]  # fmt: skip
    found = results(tmp_path / "out")["metrics"]
    for name, said in zip(names, theirs, strict=True):
        assert found[f"lm_eval:{name}.acc"]["value"] == said[name]["acc,none"]
        assert found[f"lm_eval:{name}:words_half.acc"]["value"] == said["words_half"]["acc,none"]
        assert found[f"lm_eval:{name}:words_half.acc"]["n"] == 6
    assert all("acc" in r and "task acc" in r for r in records(tmp_path / "out", "words"))
    assert not any("acc" in r for r in records(tmp_path / "out", "means"))


def test_what_cannot_be_asked_is_told_before_a_model_is_read(
    lm_python: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is unknown, one whose data are on the Hub, one that runs code, and a file that is no task."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # its client tries again for 23 s else
    unsafe = tmp_path / "unsafe.yaml"
    unsafe.write_text(CHOICE.replace("task: words_mc", "task: mine\nunsafe_code: true"))
    other = tmp_path / "other.yaml"
    other.write_text("a: 1\n")
    gone = tmp_path / "gone.yaml"
    gone.write_text(CHOICE.replace("words.jsonl", "absent.jsonl"))
    nowhere = tmp_path / "nowhere"
    wrong = ["lm_eval:gsm8", "lm_eval:gsm8k", "lm_eval:mbpp", "lm_eval:mmlu_anatomy", f"lm_eval:{unsafe}"]
    said = worker(lm_python, spec(tmp_path, nowhere, [*wrong, f"lm_eval:{gone}"]), "--check", code=2)
    lines = [line for line in said.splitlines() if line.startswith(("lm_eval:", "task "))]
    assert "has no task, group or tag 'gsm8'; did you mean 'gsm8k'?" in lines[0]
    assert "data set openai/gsm8k (main) cannot be read" in lines[1] and "`dataset_path: json`" in lines[1]
    assert "mbpp: runs code that the model writes" in lines[2] and "mine: runs code" in lines[4]
    assert "data set cais/mmlu (anatomy) cannot be read" in lines[3] and "absent.jsonl" in lines[5]
    said = worker(lm_python, spec(tmp_path, nowhere, [f"lm_eval:{other}"]), "--check", code=2)
    assert "names no `task` and no `group`" in said
    worker(lm_python, spec(tmp_path, nowhere, [f"lm_eval:{tasks / 'words_mc.yaml'}"]), "--check")


@pytest.mark.slow
def test_a_run_is_scored_beside_its_base_and_compared(
    lm_python: Path, tiny_model: Path, tasks: Path, recipe: Recipe, tmp_path: Path
) -> None:
    """With suites of our own in one command, and later alone: what was there stays; the paired tests are there."""
    text = f"""
backend: llamafactory
method: sft
model: {{path: {tiny_model}}}
data:
  train: [{{path: rows.jsonl}}]
  validation: {{fraction: 0.3}}
  max_length: 256
training: {{max_steps: 1, global_batch_size: 2, learning_rate: 0.01}}
eval: {{suites: [perplexity, "lm_eval:{tasks}/words_mc.yaml"], max_samples: 8}}
"""
    (tmp_path / "mine.yaml").write_text(text)
    rows = [{"prompt": f"What is {n} and {n}?", "response": f"It is {2 * n}."} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = Path(recipe("run", "mine.yaml").stdout.splitlines()[-1])
    first = results(run / "eval")
    assert {"perplexity", "lm_eval:words_mc.acc"} <= first["metrics"].keys()
    recipe("eval", run.name, "--suites", f"lm_eval:{tasks}/words_ppl.yaml")
    both = results(run / "eval")
    assert {*first["metrics"], "lm_eval:words_ppl.word_perplexity"} <= both["metrics"].keys()
    told = both["provenance"]  # what another engine answered stays its answer
    assert told["suites"]["perplexity"].get("engine", told["engine"]) == first["provenance"]["engine"]
    recipe("eval", run.name, "--suites", "perplexity")
    assert results(run / "eval")["metrics"].keys() == both["metrics"].keys()
    report = (run / "eval" / "evaluation_report.md").read_text()
    (line,) = [
        line
        for line in report.splitlines()
        if line.startswith("| lm_eval:words_ppl.byte_perplexity") and "nats" in line
    ]
    told = {"8 / 0 / 0": "| better |", "0 / 8 / 0": "| worse |"}
    assert any(counts in line and verdict in line for counts, verdict in told.items()) or "no difference shown" in line
    refused = recipe("eval", run.name, "--suites", "lm_eval:gsm", code=2)
    assert "has no task, group or tag 'gsm'" in refused.stderr


@pytest.mark.slow
def test_vllm_answers_as_transformers_does(
    lm_python: Path, tiny_model: Path, eval_python: Path, tasks: Path, tmp_path: Path
) -> None:
    """Of an adapter, too: merged for the one, beside its base for the other; in float32, within rounding."""
    adapter = tmp_path / "adapter"
    inside(eval_python, ADAPTER, str(tiny_model), str(adapter), cwd=tmp_path)
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    python = _ensure("eval-lm-vllm")
    suites = [f"lm_eval:{tasks / name}.yaml" for name in NAMES]
    found = {}
    for engine, which in (("transformers", lm_python), ("vllm", python)):
        (tmp_path / engine).mkdir()
        how = {"chat_template_kwargs": {"enable_thinking": False}, "engine": engine}
        worker(which, spec(tmp_path / engine, adapter, suites, base=tiny_model, **how))
        found[engine] = results(tmp_path / engine / "out")
    one, other = found["transformers"]["metrics"], found["vllm"]["metrics"]
    assert one.keys() == other.keys()
    for name in one:
        assert other[name]["value"] == pytest.approx(one[name]["value"], rel=1e-4), name
    told = [f["provenance"]["suites"]["lm_eval:words_mc"] for f in found.values()]
    assert [t["engine"]["engine"] for t in told] == ["transformers", "vllm"]
    assert told[0]["settings"] == told[1]["settings"]


@pytest.mark.slow
def test_a_thought_without_end_is_no_answer(lm_python: Path, tiny_model: Path, tasks: Path, tmp_path: Path) -> None:
    """The prompt begins one, which random weights never end; asked again, the same is known from the cache."""
    own = tmp_path / "own.jinja"
    own.write_text(TEMPLATE)
    how = {"lm_eval": {"think_end_token": "</think>"}, "chat_template": str(own), "max_samples": 4}
    given = [tmp_path, tiny_model, [f"lm_eval:{tasks / 'words_gen.yaml'}"]]
    for thinking, count in ((True, 4), (True, 4), (False, 0)):
        path = spec(*given, **how, chat_template_kwargs={"enable_thinking": thinking})
        said = worker(lm_python, path)
        found = records(tmp_path / "out", "words_gen")
        assert sum(r.get("unfinished_thought", False) for r in found) == count
        assert all(bool(r["output"]) != r.get("unfinished_thought", False) for r in found)
        assert ("4 replies counted as wrong: unfinished_thought" in said) == thinking


CODE = """
task: programs
dataset_path: json
dataset_kwargs: {data_files: {test: programs.jsonl}}
test_split: test
unsafe_code: true
output_type: generate_until
doc_to_text: "Write {{name}}:"
doc_to_target: "{{test}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 2, do_sample: false}
filter_list: [{name: program, filter: [{function: custom, filter_fn: !function own.programs}]}]
metric_list: [{metric: !function own.passes, aggregation: mean, higher_is_better: true}]
"""
OWN = """
def programs(replies, docs):  # a small model writes none
    return [[doc["program"]] for doc in docs]

def passes(references, predictions):
    try:
        exec(predictions[0][0] + "\\n" + references[0], {})
        return 1.0
    except Exception:
        return 0.0
"""


@pytest.mark.slow
def test_code_of_a_model_runs_where_it_reaches_nothing(lm_python: Path, tiny_model: Path, tmp_path: Path) -> None:
    """A right program, a wrong one, and those that go for the network, a file, their parent, and their own end."""
    out = lm_python.parent.parent / f"of_a_model_{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        reach = f"import socket; socket.create_connection({server.getsockname()!r}, 2)"
        programs = {
            "right": "def f(n): return n + 1",
            "wrong": "def f(n): return n",
            "network": f"{reach}\ndef f(n): return n + 1",
            "file": f"open({str(out)!r}, 'w')\ndef f(n): return n + 1",
            "parent": "import os\nos.kill(os.getppid() or 10**6, 9)\ndef f(n): return n + 1",
            "end": "import os; os._exit(0)",
        }
        rows = [{"name": name, "program": text, "test": "assert f(3) == 4"} for name, text in programs.items()]
        (tmp_path / "programs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "own.py").write_text(OWN)
        (tmp_path / "programs.yaml").write_text(CODE)
        path = spec(tmp_path, tiny_model, [f"lm_eval:{tmp_path / 'programs.yaml'}"])
        assert "eval.allow_code: true (--allow-code) runs it in a sandbox" in worker(lm_python, path, "--check", code=2)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"allow_code": True}))
        said = worker(lm_python, path)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    found = {r["doc"]["name"]: r["passes,program"] for r in records(tmp_path / "out", "programs")}
    assert found == {name: float(name == "right") for name in programs}
    assert not out.exists() and "1 programs counted as wrong: the process ended by itself" in said
