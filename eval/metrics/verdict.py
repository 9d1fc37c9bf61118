"""Which score from 1 to 5 a judge's reply gives: where that is in doubt, none.

Judges name the scale beside the score ("4 out of 5", "Score: 2 (1 = worst, 5 = best)", "评分：4分（满分5分）"), and
figures of the answer that they judge. What names the scale is taken out; then one figure must be left, or a line that
gives the score.
"""

from __future__ import annotations

import re
from unicodedata import normalize

THOUGHT_ENDS = re.compile(r"</think(?:ing)?>|\[/THINK\]")
THOUGHT = re.compile(r"<think(?:ing)?>|\[THINK\]")
MARKUP = re.compile(r"[*_`$]+")
FIVE, ONE = r"(?:5(?:[.,]0+)?|five|五)(?![\dA-Za-z%])", r"(?<![\d.,])(?:1(?:[.,]0+)?|one|一)(?![\dA-Za-z%])"
UNIT = r"(?:\s*(?:points?|stars?|marks?)\b|\s*分)?"
NOTE = r"(?:\s*\([^()\d\n]*\))?"
SAYS = r"(?:\s*(?:=|:|\bis\b|\bbeing\b|\bmeans\b|\bfor\b|为|是|表示|代表|\()|\s*最)"
BEST = r"(?:the\s+)?(?:best|highest|perfect|top|maximum|excellent|最好|最高|最佳)"
# "3 of 5 facts" is no score; "3 out of 5 because …" is one.
NO_FACTS = r"(?!\s+(?!(?:because|since|as|for|and|but|so|in|on|with|at|due|here|overall)\b)[a-z])"
SCALES = (
    # 1-5; one to five; from 1 (worst) to 5 (best); 从1到5分
    rf"{ONE}{UNIT}{NOTE}\s*(?:to|through|and|-|–|—|~|\.\.+|至|到)\s*{FIVE}{UNIT}{NOTE}",
    # 1 = worst, 5 = best; 1分最差，5分最好; and the other way round
    rf"{ONE}{UNIT}{SAYS}[^\d\n]{{1,40}}?(?<![A-Za-z\d.]){FIVE}{UNIT}{SAYS}[^\d\n,;.)]{{1,40}}",
    rf"(?<![\d.,]){FIVE}{UNIT}{SAYS}[^\d\n]{{1,40}}?{ONE}{UNIT}{SAYS}[^\d\n,;.)]{{1,40}}",
    rf"(?<![\d.,]){FIVE}{UNIT}\s*(?:=|\bis\b|\bbeing\b|\bmeans\b|为|是)\s*{BEST}",
    # 4 out of 5; out of a possible 5; 4 of 5; 4/5
    rf"\b(?:out\s+)?of\s+(?:(?:an?|the|possible|maximum|max|total|of)\s+){{0,4}}{FIVE}{UNIT}{NO_FACTS}",
    rf"[/⁄]\s*{FIVE}{UNIT}",
    # a 5-point scale; a scale of 5; up to 5; maximum: 5; 满分5分; 五分制
    rf"(?<![\d.,]){FIVE}[\s-]*(?:points?|stars?|levels?)\s+(?:likert\s+)?(?:scale|rating|system)\b|\b{FIVE}-points?\b",
    rf"\b(?:scale|up|max(?:imum)?)\.?(?:\s+(?:of|is|to|score|points?|possible))*\s*(?::\s*)?{FIVE}{UNIT}",
    rf"(?:满分|滿分|总分|總分|共)\s*(?:[为為是:]\s*)?{FIVE}\s*分?|{FIVE}\s*分(?:制|中|里|裡)",
)
SCALE = re.compile("|".join(SCALES), re.IGNORECASE)
SHARE = re.compile(r"(?<![\d.,])\d+(?:[.,]\d+)*\s*%")
# A word is a score where a sentence gives it as one: "I give it a four.", and not "the two texts".
WORD = r"(?:one|two|three|four|five)"
BEFORE = r"(?:^\W*|[:,;(—–-]\s*|\b(?:an?|it|this|that|answer|of|is|be|as)\s+)"
AFTER = r"(?=\s*(?:[.,;:!?)\]\"'—–]|$))"
NUMBER = r"(?<![A-Za-z\d.])(?<!\d,)(-?\d+(?:[.,]\d+)*)(?![A-Za-z\d])"
FIGURE = re.compile(rf"{NUMBER}|{BEFORE}({WORD}){AFTER}|([一二两三四五])\s*分(?!之)", re.IGNORECASE)
GIVES = re.compile(
    r"\b(?:scores?|rating|verdict|grade)\b|\b(?:give|rate|score|grade)\s+(?:it|this|that|the)\b|评分|得分|打分|分数",
    re.IGNORECASE,
)
SCORES = {
    **{str(n): n for n in range(1, 6)},
    **{word: n for n, word in enumerate(("one", "two", "three", "four", "five"), 1)},
    "一": 1,
    "二": 2,
    "两": 2,
    "三": 3,
    "四": 4,
    "五": 5,
}


def score_of(reply: str) -> int | None:
    """The score of a reply, 1 to 5; thoughts, and what names the scale, are left out.

    The lines that give a score, with one figure, must agree; where there are none, the whole reply has one figure.
    None where that is not so, for a figure that is no score, and for a thought that never ends.
    """
    text = THOUGHT_ENDS.split(reply)[-1]
    if THOUGHT.search(text):
        return None
    text = MARKUP.sub("", normalize("NFKC", text))
    lines = [_figures(line) for line in SCALE.sub(" ", SHARE.sub(" ", text)).splitlines()]
    giving = {figures[0] for rest, figures in lines if len(figures) == 1 and (not rest or GIVES.search(rest))}
    left = list(giving) or [figure for _, figures in lines for figure in figures]
    return SCORES.get(left[0]) if len(left) == 1 else None


def _figures(line: str) -> tuple[str, list[str]]:
    """What a line says beside its figures, and these; a whole number is written without its decimals."""
    found = [next(filter(None, match.groups())) for match in FIGURE.finditer(line)]
    rest = re.sub(r"[\W\d]+", " ", FIGURE.sub(" ", line)).strip()
    return rest, [re.sub(r"[.,]0+$", "", figure).lower() for figure in found]
