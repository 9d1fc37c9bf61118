"""The official metrics of LongBench: each a pure function of a prediction, a reference and the class names.

The definitions are those of https://github.com/THUDM/LongBench/blob/main/LongBench/metrics.py; where they look strange,
they are followed all the same, so that numbers agree with published ones. All values are from 0 to 1.
"""

from __future__ import annotations

import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

from recipes.errors import UserError
from recipes.lcs import lcs_words

Metric = Callable[[str, str, Sequence[str]], float]

# What a reference of a retrieval subset must hold.
PARAGRAPH = {"retrieval": re.compile(r"Paragraph (\d+)"), "retrieval_zh": re.compile(r"段落(\d+)")}

ARTICLES = re.compile(r"\b(a|an|the)\b")
# `normalize_zh_answer`: 《 and 〈 are not among them.
PUNCTUATION_ZH = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、"
    "〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
)
WITHOUT = str.maketrans("", "", string.punctuation)
WITHOUT_ZH = str.maketrans("", "", string.punctuation + PUNCTUATION_ZH)


def qa_f1(prediction: str, reference: str, _classes: Sequence[str]) -> float:
    """Bag-of-tokens F1 of what `normalize_answer` leaves."""
    return _bag_f1(_tokens(prediction), _tokens(reference))


def qa_f1_zh(prediction: str, reference: str, _classes: Sequence[str]) -> float:
    """The same of jieba's words: cut first, then normalised one by one, so that punctuation still separates."""
    return _bag_f1(_tokens_zh(prediction), _tokens_zh(reference))


def _tokens(text: str) -> list[str]:
    return ARTICLES.sub(" ", text.lower().translate(WITHOUT)).split()


def _tokens_zh(text: str) -> list[str]:
    normal = ("".join(word.lower().translate(WITHOUT_ZH).split()) for word in jieba_words(text))
    return [word for word in normal if word]


def _bag_f1(prediction: list[str], reference: list[str]) -> float:
    same = (Counter(prediction) & Counter(reference)).total()
    if same == 0:
        return 0.0
    precision, recall = same / len(prediction), same / len(reference)
    return 2 * precision * recall / (precision + recall)


def jieba_words(text: str) -> list[str]:
    """Chinese text in words.

    Raises:
        UserError: jieba is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a deprecated module that jieba imports
            import jieba
    except ImportError:
        raise UserError("the Chinese subsets of LongBench need jieba (pip install jieba)") from None
    jieba.setLogLevel("ERROR")
    return list(jieba.cut(text, cut_all=False))


def rouge_l(prediction: str, reference: str, _classes: Sequence[str]) -> float:
    """The summary-level ROUGE-L F of the package `rouge`: over the distinct words, sentences end at each full stop.

    The union over all pairs of sentences of the words of their longest common subsequence, over the distinct words of
    each side (https://github.com/pltrdy/rouge/blob/1.0.1/rouge/rouge_score.py, `rouge_l_summary_level`). A side without
    a sentence is an error there, which LongBench scores 0. The `1e-8` makes identical texts 0.999999995. Long texts,
    on which the package's recursion overflows (and LongBench scores 0), get their value.
    """
    mine, other = _sentences(prediction), _sentences(reference)
    if not mine or not other:
        return 0.0
    union: set[str] = set()
    for sentence in other:
        for candidate in mine:
            union |= lcs_words(sentence, candidate)
    precision = len(union) / len({word for sentence in mine for word in sentence})
    recall = len(union) / len({word for sentence in other for word in sentence})
    return 2.0 * ((precision * recall) / (precision + recall + 1e-8))


def rouge_l_zh(prediction: str, reference: str, classes: Sequence[str]) -> float:
    return rouge_l(" ".join(jieba_words(prediction)), " ".join(jieba_words(reference)), classes)


def _sentences(text: str) -> list[list[str]]:
    """Words of each part between full stops; a part of blanks is one empty word, as there."""
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def classification(prediction: str, reference: str, classes: Sequence[str]) -> float:
    """One over the number of class names in the prediction, if the right one is among them.

    Names within the right name are taken out of the list while it is walked, so the one after each is passed over:
    'A AB ABC' for ABC of [A, AB, ABC] keeps AB and scores 0.5.
    """
    matches = [name for name in classes if name in prediction]
    for name in matches:
        if name in reference and name != reference:
            matches.remove(name)
    return 1.0 / len(matches) if reference in matches else 0.0


def count(prediction: str, reference: str, _classes: Sequence[str]) -> float:
    """The share of the prediction's numbers that equal the reference."""
    return _share_of_numbers(prediction, str(reference))


def retrieval(prediction: str, reference: str, _classes: Sequence[str]) -> float:
    return _share_of_numbers(prediction, PARAGRAPH["retrieval"].findall(reference)[0])


def retrieval_zh(prediction: str, reference: str, _classes: Sequence[str]) -> float:
    return _share_of_numbers(prediction, PARAGRAPH["retrieval_zh"].findall(reference)[0])


def _share_of_numbers(prediction: str, wanted: str) -> float:
    numbers = re.findall(r"\d+", prediction)
    return numbers.count(wanted) / len(numbers) if numbers else 0.0


def code_sim(prediction: str, reference: str, _classes: Sequence[str]) -> float:
    """Similarity of the first line that is neither a comment nor a fence.

    As fuzzywuzzy's `fuzz.ratio` without python-Levenshtein, which the official requirements do not name: difflib's
    ratio as a whole percentage, 100 for equal texts.
    """
    lines = prediction.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    if line == reference:
        return 1.0
    return round(100 * SequenceMatcher(None, line, reference).ratio()) / 100


METRICS: dict[str, Metric] = {
    "qa_f1": qa_f1,
    "qa_f1_zh": qa_f1_zh,
    "rouge_l": rouge_l,
    "rouge_l_zh": rouge_l_zh,
    "classification": classification,
    "count": count,
    "retrieval": retrieval,
    "retrieval_zh": retrieval_zh,
    "code_sim": code_sim,
}

# https://github.com/THUDM/LongBench/blob/main/LongBench/eval.py, `dataset2metric`
SUBSETS = {
    "narrativeqa": "qa_f1",
    "qasper": "qa_f1",
    "multifieldqa_en": "qa_f1",
    "multifieldqa_zh": "qa_f1_zh",
    "hotpotqa": "qa_f1",
    "2wikimqa": "qa_f1",
    "musique": "qa_f1",
    "dureader": "rouge_l_zh",
    "gov_report": "rouge_l",
    "qmsum": "rouge_l",
    "multi_news": "rouge_l",
    "vcsum": "rouge_l_zh",
    "trec": "classification",
    "triviaqa": "qa_f1",
    "samsum": "rouge_l",
    "lsht": "classification",
    "passage_retrieval_en": "retrieval",
    "passage_count": "count",
    "passage_retrieval_zh": "retrieval_zh",
    "lcc": "code_sim",
    "repobench-p": "code_sim",
}
FIRST_LINE = frozenset({"trec", "triviaqa", "samsum", "lsht"})  # `scorer`: the rest is the next few-shot example
BUCKETS = ("0-4k", "4-8k", "8k+")


def row_score(subset: str, prediction: str, answers: Sequence[str], classes: Sequence[str] | None) -> float:
    """The best score over the answers; 0 to 1."""
    if subset in FIRST_LINE:
        prediction = prediction.lstrip("\n").split("\n")[0]
    metric = METRICS[SUBSETS[subset]]
    return max((metric(prediction, answer, classes or []) for answer in answers), default=0.0)


def bucket(length: int) -> str:
    """LongBench-E's bucket of a row's `length`, in words (characters for Chinese)."""
    return BUCKETS[0] if length < 4000 else BUCKETS[1] if length < 8000 else BUCKETS[2]


def percentage(scores: Sequence[float]) -> float | None:
    """A subset's score: 100 × the mean, to two places; None for no row."""
    return round(100 * sum(scores) / len(scores), 2) if scores else None
