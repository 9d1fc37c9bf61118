"""How alike two texts are: the scorers of free answers, each named in the results that it makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any

from eval.hashes import model_hash
from recipes.errors import UserError
from recipes.figures import NARROW
from recipes.rouge import of_another_script, rouge_l, rouge_n

# Similarities of one prediction to each of several references, 0 to 1 (a cosine or BLEURT may lie beyond).
Scorer = Callable[[str, Sequence[str]], list[float]]

DEFAULT = "rougeL"


def scorer(name: str) -> Scorer:
    """`rougeL`, `embedding:DIRECTORY` (a Hugging Face encoder), or `bleurt:DIRECTORY` (BLEURT as a Hugging Face model).

    Raises:
        UserError: no such scorer, or its weights are not there.
    """
    if name == "rougeL":
        return rouge_score_l
    kind, _, directory = name.partition(":")
    if kind not in WEIGHTED or not directory:
        raise UserError(f"scorer: {name!r} is unknown; allowed are rougeL, embedding:DIRECTORY and bleurt:DIRECTORY")
    return WEIGHTED[kind](directory)


def weights_of(name: str) -> str | None:
    """The hash of a scorer's weights, None where it has none: its directory's name is no identity."""
    _, _, directory = name.partition(":")
    return model_hash(Path(directory)) if directory else None


def rouge_score_l(prediction: str, references: Sequence[str]) -> list[float]:
    """F1 of rougeL without stemmer, as lm-eval computes it for TruthfulQA."""
    return [rouges(prediction, reference, stem=False)["rougeL"] for reference in references]


def rouges(prediction: str, reference: str, *, stem: bool) -> dict[str, float]:
    """F1 of rouge1, rouge2 and rougeL, equal to the package rouge_score.

    Of a reference in another script than Latin, where that package reads nothing and gives 0 to every reply, the same
    measures of recipes/rouge.py.
    """
    if of_another_script(reference):
        grams = {f"rouge{n}": rouge_n(prediction, reference, n) for n in (1, 2)}
        return grams | {"rougeL": rouge_l(prediction, reference)}
    scores = _rouge_scorer(stem).score(reference.translate(NARROW), prediction.translate(NARROW))
    return {name: score.fmeasure for name, score in scores.items()}


def scripts(references: Iterable[str]) -> str:
    """What an implementation's name says of references that rouge_score cannot read; "" where there are none."""
    return "; other scripts than Latin by recipe-runner's words" if any(map(of_another_script, references)) else ""


def scripts_note(samples: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """What the screen says of them, given each sample's references."""
    other = sum(any(map(of_another_script, references)) for references in samples)
    said = f"{other} of {len(samples)} have references that rouge_score cannot read (it knows a-z and 0-9)"
    return (f"{said}; they are compared word by word, Chinese by character",) if other else ()


@cache
def _rouge_scorer(stem: bool) -> Any:
    try:
        from rouge_score_rs import rouge_scorer
    except ImportError:
        raise UserError("ROUGE needs rouge-score-rs (pip install rouge-score-rs)") from None
    return rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=stem)


def trigram_cosine(prediction: str, reference: str) -> float:
    """Cosine of the counts of character 3-grams: an embedding that needs no model; 0 to 1."""
    mine, other = (Counter(_trigrams(text)) for text in (prediction, reference))
    product = sum(n * other[gram] for gram, n in mine.items())
    norms = sqrt(sum(n * n for n in mine.values()) * sum(n * n for n in other.values()))
    return product / norms if norms else 0.0


def _trigrams(text: str) -> list[str]:
    padded = f"  {' '.join(text.lower().split())}  "
    return [padded[n : n + 3] for n in range(len(padded) - 2)] if padded.strip() else []


def _weights(directory: str, kind: str, may_lack: str) -> tuple[Any, Any]:
    """The tokenizer and model in a directory; weights that are missing, which transformers would make up, are refused.

    Args:
        kind: the class of transformers.
        may_lack: the beginning of weights' names that are not used.
    """
    import transformers

    if not Path(directory).is_dir():
        raise UserError(f"scorer: {directory}: no such directory")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        model, found = getattr(transformers, kind).from_pretrained(directory, output_loading_info=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"scorer: cannot load {directory}: {str(error).splitlines()[0][:200]}") from None
    missing = [name for name in found["missing_keys"] if not name.startswith(may_lack)]
    if missing:
        raise UserError(f"scorer: {directory} lacks the weights of {', '.join(sorted(missing)[:3])}")
    return tokenizer, model.eval()


@cache
def _embedding(directory: str) -> Scorer:
    """Cosine of the mean of an encoder's last hidden states; 0 for a text without tokens, as ROUGE has it."""
    import torch

    tokenizer, model = _weights(directory, "AutoModel", "pooler.")

    def vector(text: str) -> Any:
        batch = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)
        # Of an empty text a tokenizer that adds no tokens of its own leaves none, which no model takes.
        if not batch["input_ids"].numel():
            return None
        with torch.inference_mode():
            return model(**batch).last_hidden_state.mean(1)[0].float()

    def cosine(one: Any, other: Any) -> float:
        return 0.0 if one is None or other is None else float(torch.cosine_similarity(one, other, dim=0))

    def similarity(prediction: str, references: Sequence[str]) -> list[float]:
        mine = vector(prediction)
        return [cosine(mine, vector(reference)) for reference in references]

    return similarity


@cache
def _bleurt(directory: str) -> Scorer:
    """The single output of a sequence classifier over (reference, prediction), as BLEURT was trained.

    https://github.com/google-research/bleurt/blob/master/bleurt/score.py
    """
    import torch

    tokenizer, model = _weights(directory, "AutoModelForSequenceClassification", "\0")
    if model.config.num_labels != 1:
        raise UserError(f"scorer: {directory} is no BLEURT: it has {model.config.num_labels} outputs, not one")

    def similarity(prediction: str, references: Sequence[str]) -> list[float]:
        pairs = list(references), [prediction] * len(references)
        batch = tokenizer(*pairs, return_tensors="pt", padding=True, truncation=True, max_length=512)
        with torch.inference_mode():
            return [float(value) for value in model(**batch).logits[:, 0]]

    return similarity


WEIGHTED: dict[str, Callable[[str], Scorer]] = {"embedding": _embedding, "bleurt": _bleurt}
