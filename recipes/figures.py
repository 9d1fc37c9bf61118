"""The figures of a text as values, for rewards and metrics alike; standard library only, as the trainer's workers need.

Signs and magnitudes count: '-5 %' is not 5, '1.2 million' and '120万' are 1,200,000. What is a figure and what its unit
is a matter of writing: see `figures`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from recipes.rouge import CJK

# Full-width forms, as Chinese and Japanese texts have them, as their ASCII ones.
NARROW = {**{n: n - 0xFEE0 for n in range(0xFF01, 0xFF5F)}, 0x3000: ord(" "), 0xFFE1: ord("£"), 0xFFE5: ord("¥")}

SCALES = {
    "hundred": 2,
    "thousand": 3,
    "million": 6,
    "billion": 9,
    "trillion": 12,
    "lakh": 5,
    "crore": 7,
    "mn": 6,
    "mln": 6,
    "mio": 6,
    "bn": 9,
    "tn": 12,
    "trn": 12,
    "百": 2,
    "千": 3,
    "万": 4,
    "萬": 4,
    "亿": 8,
    "億": 8,
    "만": 4,
    "억": 8,
    "십": 1,
    "十": 1,
}
LETTERS = {"k": 3, "K": 3, "M": 6, "B": 9}
OF_MONEY = {"m": 6, "b": 9, "T": 12}  # metres, bits and tonnes otherwise

FIGURE = re.compile(
    rf"""
    (?P<open>(?<![A-Za-z0-9_])\(\ ?)?
    (?P<sign>
        (?<![^\W{CJK}])(?<![)\]%‰万萬亿億千百元年月日号號点點倍岁人个個次分])[-−–]  # behind these it is a range
      | [负負]
      | (?<![A-Za-z])(?i:negative\ |(?<!\d\ )(?<!\)\ )minus\ )
    )?
    (?P<money>[A-Z]{{0,3}}[$€£¥₹]\ ?|(?<![A-Za-z])(?:USD|EUR|GBP|CHF|CNY|RMB|JPY|HKD|INR)\ ?)?
    (?P<digits>
        (?P<grouped>[1-9]\d{{0,2}}(?:,\d{{3}})+(?!,?\d)(?:\.\d+)?)
      | (?<![A-Za-z0-9_.])\d+(?:\.\d+)?[eE][+-]?\d{{1,2}}(?![\w.]*\w)
      | \d+(?:\.\d+)?
      | (?<![\w.])\.\d+
    )
    (?P<scale>
        (?:[\ \u00a0-]?(?i:{"|".join(name for name in SCALES if name.isascii())})(?i:s?)\b)+
      | \ ?[십十百千]?[万萬亿億만억]+
      | \ ?(?:千(?![克米瓦卡伏帕焦赫字])|百(?!分))
      | [kKmMbBT](?![A-Za-z0-9])
    )?
    (?P<percent>\ ?(?:%|(?i:per\ ?cent\b)))?
    (?P<close>\ ?\))?
    """,
    re.VERBOSE,
)
SCALE = re.compile("|".join(sorted(SCALES, key=len, reverse=True)))


def figures(text: str) -> list[Decimal]:
    """The values of a text's figures, in their order.

    A sign stands right before its figure (or its currency), and what stands behind a word or a figure is a hyphen or a
    range: '10-5' is 10 and 5. A comma groups thousands only: '1,234' is one figure, '1,2,3' are three. '1.5e-3' is
    0.0015. An amount alone in brackets (with a currency, a percent sign, grouped thousands or a magnitude) is negative,
    as accounts write it; '(5)' may be the number of anything, and is 5. A percent sign does not scale: '5 %' is 5.
    """
    return [value for _, value in _found(text.translate(NARROW))]


def _found(text: str) -> Iterator[tuple[int, Decimal]]:
    """Each figure's end and value; '1亿2000万' is one."""
    last: tuple[int, Decimal, int] | None = None  # end, value, power of ten
    for match in FIGURE.finditer(text):
        value, power = _value(match)
        joined = last and last[0] == match.start("digits") == match.start() and 0 < power < last[2]
        if last and joined:
            last = match.end("scale"), last[1] + value.copy_sign(last[1]), power
            continue
        if last:
            yield last[0], last[1]
        chinese = match["scale"] and not match["scale"].isascii()
        last = match.end("scale" if chinese else 0), value, power if chinese else 0
    if last:
        yield last[0], last[1]


def _value(match: re.Match[str]) -> tuple[Decimal, int]:
    scale = (match["scale"] or "").strip()
    letters = LETTERS | (OF_MONEY if match["money"] else {})
    power = letters.get(scale, 0) if len(scale) == 1 and scale.isascii() else 0
    power = power or sum(SCALES[name] for name in SCALE.findall(scale.lower()) if len(scale) > 1 or not scale.isascii())
    value = Decimal(match["digits"].replace(",", ""))
    value = value * 10**power if power else value
    amount = match["money"] or match["grouped"] or match["percent"] or power
    in_brackets = match["open"] and match["close"] and amount
    return (-value if match["sign"] or in_brackets else value), power
