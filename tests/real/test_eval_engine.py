"""The transformers engine with a real model: equal to one sequence at a time, whatever the batches and the prefixes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import inside

pytestmark = pytest.mark.real

REFERENCE = """
import json, sys, torch
from pathlib import Path
from eval.engines.batching import common_prefix
from eval.engines.transformers_engine import load
from eval.engines.requests import Generate, Score
from eval.spec import Model, Spec
from transformers import AutoTokenizer

path = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(path)
questions = ["What is a bond? A bond is a loan that a company takes from many lenders at once, which pays",
             "Was ist eine Aktie? Eine Aktie ist ein Anteil an einem Unternehmen, und der Inhaber hat",
             "Short. " * 5]
answers = [" interest", " nothing at all to anyone, ever", " a dividend each year.", "利息。", " x"]
primer = "Q: What is money?\\nA: Money is what people take in exchange for goods.\\n\\n"
texts = [(primer + q, primer + q + a) for q in questions for a in answers]
sequences = [(len(tokenizer(q)["input_ids"]), tokenizer(t)["input_ids"]) for q, t in texts]
n_primer = len(tokenizer(primer)["input_ids"]) - 2
def requests(shared):
    out = []
    for n, (start, ids) in enumerate(sequences):
        siblings = [sequences[m][1] for m in range(len(sequences)) if m // 5 == n // 5]
        cut = min(common_prefix(siblings), start)
        out.append(Score(ids=ids, labels=[-100] * cut + ids[cut:], shared=(n_primer, cut) if shared else ()))
    return out
def engine(budget):
    model = Model(name="m", path=path, output=Path("."))
    return load(model, Spec(models=(), suites=(), batch_tokens=budget, device="cpu"), tokenizer)
def in_order(batches):
    found = {n: answer for batch in batches for n, answer in batch}
    return [found[n] for n in sorted(found)]
small, large = engine(1), engine(100000)
forked = engine(100000)
assert forked.can_pack
forked.can_pack = False
def naive(request):
    logits = large.model(torch.tensor([request.ids])).logits[0].double().log_softmax(-1)
    return -sum(float(logits[t - 1, label]) for t, label in enumerate(request.labels) if label != -100)
plain = requests(False)
prompts = [Generate(ids=tokenizer(q)["input_ids"], max_new_tokens=n) for q, n in zip(questions, (12, 5, 9))]
long = tokenizer(primer)["input_ids"]
shared = [Generate(ids=long + p.ids, max_new_tokens=p.max_new_tokens, shared=(len(long),)) for p in prompts]
newline = tokenizer("\\n")["input_ids"]
chat = tokenizer.apply_chat_template([{"role": "user", "content": "Say hi."}], add_generation_prompt=True)["input_ids"]
samsum = ["Dialogue: A: Hi.\\nB: Hello.\\nSummary:\\n", "A list of things:", "Dialogue: A: Bye!\\nSummary: A leaves."]
stopping = [Generate(ids=tokenizer(t)["input_ids"], max_new_tokens=20, stop=frozenset(newline)) for t in samsum]
(said,) = in_order(large.generate([Generate(ids=chat, max_new_tokens=60)]))
said = chat + tokenizer(said["text"])["input_ids"]  # here the model would end its turn
stopping.append(Generate(ids=said, max_new_tokens=20, stop=frozenset(newline)))
def hf(request, min_new=False):
    # LongBench's pred.py, for samsum
    ends = dict(min_length=len(request.ids) + 1, eos_token_id=[tokenizer.eos_token_id, newline[-1]]) if min_new else {}
    out = large.model.generate(torch.tensor([request.ids]), attention_mask=torch.ones(1, len(request.ids)),
                               max_new_tokens=request.max_new_tokens, do_sample=False, **ends)
    if min_new and out[0, -1] == newline[-1]:
        out = out[:, :-1]
    return tokenizer.decode(out[0, len(request.ids):], skip_special_tokens=True)
print(json.dumps({
    "naive": [naive(r) for r in plain],
    "ones": in_order(small.score(plain)),
    "batch": in_order(large.score(plain)),
    "packed": in_order(large.score(requests(True))),
    "forked": in_order(forked.score(requests(True))),
    "generate_hf": [hf(r) for r in prompts + shared],
    "generate_ones": [a["text"] for a in in_order(small.generate(prompts + shared))],
    "generate_batch": [a["text"] for a in in_order(large.generate(prompts + shared))],
    "chat": in_order(large.generate([Generate(ids=chat, max_new_tokens=60)])),
    "chat_hf": hf(Generate(ids=chat, max_new_tokens=60)),
    "stop": [a["text"] for a in in_order(large.generate(stopping))],
    "stop_ones": [a["text"] for a in in_order(small.generate(stopping))],
    "stop_hf": [hf(request, min_new=True) for request in stopping],
    "first": [tokenizer.decode(large.model(torch.tensor([r.ids])).logits[0, -1].argmax()) for r in stopping],
    "too_long": in_order(large.score([Score(ids=[5] * 9000, labels=[5] * 9000)])),
    "prefill": [len(p.ids) for p in prompts],
}))
"""


@pytest.fixture(scope="module")
def answers(eval_python: Path, bundled_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:  # type: ignore[type-arg]
    out = inside(eval_python, REFERENCE, str(bundled_model), cwd=tmp_path_factory.mktemp("engine"))
    return dict(json.loads(out.splitlines()[-1]))


@pytest.mark.parametrize("way", ["ones", "batch", "packed", "forked"])
def test_scores_equal_one_sequence_at_a_time_with_full_logits(answers: dict[str, list], way: str) -> None:  # type: ignore[type-arg]
    """Within 1e-3 nat a sequence, alone, in one batch, and with primer and question computed once."""
    assert [a["nll"] for a in answers[way]] == pytest.approx(answers["naive"], abs=1e-3)
    assert [a["tokens"] for a in answers[way]] == [a["tokens"] for a in answers["ones"]]


@pytest.mark.parametrize("way", ["generate_ones", "generate_batch"])
def test_greedy_replies_equal_those_of_transformers(answers: dict[str, list], way: str) -> None:  # type: ignore[type-arg]
    """Left padding, rows that leave early and shared prefixes change no token."""
    assert answers[way] == answers["generate_hf"]


def test_a_reply_ends_with_its_turn(answers: dict[str, list]) -> None:  # type: ignore[type-arg]
    (reply,) = answers["chat"]
    assert reply["finished"] and reply["tokens"] < 60
    assert reply["text"] == answers["chat_hf"]


def test_a_reply_to_samsum_neither_begins_with_a_stop_nor_goes_on_after_one(answers: dict[str, list]) -> None:  # type: ignore[type-arg]
    """As transformers does by LongBench's official call: `min_length` is one more than the prompt."""
    assert {"\n", "<|im_end|>"} <= set(answers["first"])  # what each would begin with
    assert answers["stop"] == answers["stop_ones"] == answers["stop_hf"]
    assert all(text and "\n" not in text for text in answers["stop"])


def test_what_is_too_long_is_a_failure(answers: dict[str, list]) -> None:  # type: ignore[type-arg]
    assert "longer than the model's 8192 positions" in answers["too_long"][0]["error"]
