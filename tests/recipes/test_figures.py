"""Figures as values: a text that is written from a value gives that value back."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.figures import figures

# What each stands for, written out and not computed from the names.
UNITS = {
    "": 1, " hundred": 100, " thousand": 1_000, " million": 1_000_000, "-million": 1_000_000, " Billion": 1_000_000_000,
    " trillion": 1_000_000_000_000, " bn": 1_000_000_000, "bn": 1_000_000_000, " crore": 10_000_000, "k": 1_000,
    "K": 1_000, "M": 1_000_000, "B": 1_000_000_000, " hundred thousand": 100_000, "千": 1_000, "万": 10_000,
    "萬": 10_000, "百万": 1_000_000, "千万": 10_000_000, "亿": 100_000_000, "億": 100_000_000,
    "万亿": 1_000_000_000_000, "만": 10_000, "억": 100_000_000,
}  # fmt: skip
AMOUNTS = st.one_of(
    st.integers(0, 10**9).map(Decimal), st.decimals(0, 10**6, places=2, allow_nan=False, allow_infinity=False)
)
SIGNS = ["-", "−", "–", "负", "minus ", "negative ", "－"]
# Before and behind a figure, without a word that would be its unit.
AROUND = st.sampled_from(
    [("", ""), ("It is ", "."), ("fell to ", ", he said"), ("收益为", "。"), ("[", "]"), ("= ", "\n")]
)


@given(AMOUNTS, st.sampled_from(sorted(UNITS)), st.booleans(), st.sampled_from(["", "%", " %", " percent"]), AROUND)
def test_a_figure_is_its_value_with_its_magnitude(
    amount: Decimal, unit: str, grouped: bool, percent: str, around: tuple[str, str]
) -> None:
    shown = f"{amount:,}" if grouped else str(amount)
    assert figures(f"{around[0]}{shown}{unit}{percent}{around[1]}") == [amount * UNITS[unit]]


@given(AMOUNTS, st.sampled_from(SIGNS), st.sampled_from(["", "$", "US$", "€", "CNY "]), AROUND)
def test_a_sign_makes_a_figure_negative(amount: Decimal, sign: str, money: str, around: tuple[str, str]) -> None:
    assert figures(f"{around[0]}{sign}{money}{amount}{around[1]}") == [-amount]
    assert figures(f"{around[0]}{money}{amount}{around[1]}") == [amount]


BRACKETS = {
    "({}%)": 1, "({} %)": 1, "(${})": 1, "({} million)": 10**6, "({}亿)": 10**8, "（{}％）": 1, "(-{}%)": 1,
    "( {}% )": 1,
}  # fmt: skip


@given(AMOUNTS, st.sampled_from(sorted(BRACKETS)))
def test_an_amount_in_brackets_is_negative_as_in_accounts(amount: Decimal, form: str) -> None:
    assert figures(f"returned {form.format(amount)} in May") == [-amount * BRACKETS[form]]


@given(st.lists(st.integers(0, 99), min_size=2, max_size=6), st.sampled_from([",", ", ", "; ", " and ", "、"]))
def test_figures_in_a_list_are_figures_of_their_own(values: list[int], between: str) -> None:
    assert figures(between.join(map(str, values))) == values


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(["-", "–", "%-", "万-", "年–"]))
def test_a_range_is_two_figures_and_no_sign(low: int, high: int, between: str) -> None:
    assert figures(f"{low}{between}{high}") == [low * (10_000 if "万" in between else 1), high]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2,3", ["1", "2", "3"]),
        ("1,200,3", ["1", "200", "3"]),
        ("12,345", ["12345"]),
        ("0,5", ["0", "5"]),
        ("１，２００", ["1200"]),
        ("(5)", ["5"]),
        ("in (2023)", ["2023"]),
        ("f(5%)", ["5"]),
        ("- 5 apples", ["5"]),
        ("COVID-19 in Q3", ["19", "3"]),
        ("10 minus 5", ["10", "5"]),
        ("10-K", ["10"]),
        ("401(k)", ["401"]),
        ("5 m, 5m, 5MB, $5m", ["5", "5", "5", "5000000"]),
        ("5千克, 5千瓦, 5个百分点, 百分之5", ["5", "5", "5", "5"]),
        ("1亿2000万元", ["120000000"]),
        ("-3万5千", ["-35000"]),
        ("2万5", ["20000", "5"]),
        ("3 millions", ["3000000"]),
        ("5 thousandths", ["5"]),
        ("10²", ["10"]),
        ("v1.2.3", ["1.2", "3"]),
        (".5 and 0.5", ["0.5", "0.5"]),
        ("12.", ["12"]),
        ("1e5, -2.5E-3 and 6.02e23.", ["100000", "-0.0025", "6.02e23"]),
        ("model v1e3, 1e5f, 3e3e3", ["1", "3", "1", "5", "3", "3", "3"]),
        ("no figure", []),
        ("", []),
    ],
)
def test_what_only_looks_like_another_figure(text: str, expected: list[str]) -> None:
    assert figures(text) == [Decimal(value) for value in expected]


@given(st.text(alphabet="0123456789,.-−()%$ 千百万亿kMmillion\n", max_size=30))
def test_any_text_has_figures_that_are_finite(text: str) -> None:
    assert all(value.is_finite() for value in figures(text))
