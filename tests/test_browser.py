"""report.html in headless Chromium: safe, whole, used by keyboard, read by all. Needs Chromium: make test-browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.report.curves import training
from eval.report.files import write_report
from eval.report.results import Entry
from eval.report.tables import make_report
from tests.eval.test_report import EVIL, _entry

pytestmark = pytest.mark.browser

WIDTHS = [390, 1280]
# What has run scripts in pages: none of it may, in a reply or past the escaping.
PAYLOADS = (
    "<script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 2'>",
    "<svg onload='window.ran = 3'></svg>",
    "<details open ontoggle='window.ran = 4'><summary>x</summary></details>",
    "<iframe srcdoc='<script>parent.ran = 5</script>'></iframe>",
    "<a id=bait href='javascript:window.ran = 6'>bait</a>",
    "<button id=lure onclick='window.ran = 7'>lure</button>",
    "<base href='https://example.org/'><form action='https://example.org'></form>",
    "</p></main></script><script>window.ran = 8</script>",
    "<style>main { display: none }</style>",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    assert found, "Chromium is not installed"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def entries(evil: str = "") -> list[Entry]:
    curve = training([{"step": s, "loss": 3 - s / 5} for s in range(9)] + [{"step": 8, "eval_loss": 2.0}])
    found = [
        _entry("base", evil=evil),
        _entry("lora", shift=-1.0, evil=evil, training=curve, recipe={"method": "sft", "rank": 8}),
        _entry("full", shift=-0.5, training=curve, recipe={"method": "dpo", "rank": 4}),
    ]
    outputs = {"base": "The loan costs five euros, 借款 is bad.", "full": "The new loan costs six euros, 贷款 is bad."}
    for entry in found:
        for row in entry.records["reference"]:
            row["output"] = outputs.get(entry.name, row["output"])
    worse = found[2].records["reference"][4]
    worse["rougeL"] = 0.0
    return found


def opened(chromium: Any, directory: Path, width: int = 1280, **options: Any) -> tuple[Any, list[str]]:
    """The page of a directory's report, and what it complains of on its console, which fills while it is used."""
    page = chromium.new_page(viewport={"width": width, "height": 800}, **options)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((directory / "report.html").as_uri())
    return page, said


@pytest.fixture
def report(tmp_path: Path) -> Path:
    write_report(make_report(entries(EVIL)), tmp_path)
    return tmp_path


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_reads_on_a_phone_and_a_desk(width: int, chromium: Any, report: Path) -> None:
    page, said = opened(chromium, report, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    assert page.locator("svg").count() >= 3 and page.locator("script").count() == 1
    assert EVIL[:25] in page.locator("body").text_content()
    first = page.locator(".verdicts li").first.bounding_box()
    assert first["y"] + first["height"] < 800, "the answer is not in the first screen"
    for cell in page.locator("section tbody tr td:nth-child(2)").all():
        box = cell.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, "a verdict is out of sight"
    table = page.locator("section .wide").first.bounding_box()
    assert table["y"] < page.locator("figure").first.bounding_box()["y"], "plots come before the verdict"
    assert said == []


def test_without_its_script_the_page_holds_the_same_text(chromium: Any, report: Path) -> None:
    page, _ = opened(chromium, report, java_script_enabled=False)
    text = page.content()
    assert "is better than base" in text and "lora says 0" in text and page.locator("article").count() > 5
    assert page.locator("th button, .picks, .tools").count() == 0


@pytest.mark.parametrize("escaped", [True, False])
def test_nothing_that_a_reply_holds_ever_runs(escaped: bool, chromium: Any, tmp_path: Path) -> None:
    """Not as a reply, and not even where the escaping would fail: the policy knows our script by its hash alone."""
    write_report(make_report(entries("".join(PAYLOADS))), tmp_path)
    if not escaped:
        path = tmp_path / "report.html"
        whole = path.read_text(encoding="utf-8")
        path.write_text(whole.replace("<h1>", "".join(PAYLOADS) + "<h1>"), encoding="utf-8")
    page, said = opened(chromium, tmp_path)
    for box in page.locator("details").all():
        box.evaluate("box => { box.open = true }")
    page.locator("input[type=search]").first.fill("<img src=x onerror='window.ran = 9'>")
    page.wait_for_timeout(300)
    if not escaped:  # the policy is what holds, so its refusals are heard of; the bait is there, and clicked
        for bait in ("#bait", "#lure"):
            page.locator(bait).evaluate("bait => bait.click()")
        page.wait_for_timeout(300)
        assert sum("Content Security Policy" in line for line in said) >= 6
        assert page.locator("main").is_visible()
    else:
        assert said == []
        assert page.locator("img, iframe, #bait, form, base").count() == 0
    assert page.evaluate("window.ran") is None


def test_a_page_that_runs_scripts_is_told(chromium: Any, tmp_path: Path) -> None:
    """The same payloads do run where the policy is taken away: the test before is no empty one."""
    write_report(make_report(entries()), tmp_path)
    path = tmp_path / "report.html"
    whole = re.sub("<meta http-equiv[^>]*>", "", path.read_text(encoding="utf-8"))
    path.write_text(whole.replace("<h1>", "".join(PAYLOADS[:2]) + "<h1>"), encoding="utf-8")
    page, _ = opened(chromium, tmp_path)
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") in (1, 2)


def test_headers_sort_by_keyboard_and_say_how(chromium: Any, report: Path) -> None:
    page, _ = opened(chromium, report)
    table = page.locator("[aria-label=Results] table")

    def column() -> list[float]:
        texts = table.locator("tbody tr td:nth-child(2)").all_text_contents()
        return [float(text.split()[0]) for text in texts]

    header = table.locator("thead th").nth(1)
    before = column()
    header.locator("button").focus()
    assert header.locator("button").evaluate("button => getComputedStyle(button).outlineStyle") != "none"
    page.keyboard.press("Enter")
    assert column() == sorted(before) and header.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert column() == sorted(before, reverse=True) and header.get_attribute("aria-sort") == "descending"
    table.locator("thead th").nth(0).locator("button").click()
    assert table.locator("[aria-sort]").count() == 1
    names = table.locator("tbody th").all_text_contents()
    assert names == sorted(names)


def test_what_is_missing_sorts_last_both_ways(chromium: Any, report: Path) -> None:
    page, _ = opened(chromium, report)
    cost = page.locator("[aria-label=Cost] table")
    for _ in range(2):
        cost.get_by_role("button", name="steps").click()
        assert cost.locator("tbody th").last.text_content() == "base"


def test_runs_and_metrics_are_picked(chromium: Any, report: Path) -> None:
    page, _ = opened(chromium, report)
    page.get_by_text("Pick runs and metrics").click()
    page.get_by_label("full", exact=True).uncheck()
    assert not page.get_by_role("heading", name="full against base").is_visible()
    assert page.get_by_role("heading", name="lora against base").is_visible()
    assert page.locator("[aria-label=Results] thead th:visible").count() == 4  # metric, base, lora, n
    page.get_by_role("checkbox", name="perplexity").uncheck()
    assert page.locator("tr[data-metric=perplexity]:visible, figure[data-metric=perplexity]:visible").count() == 0
    assert page.locator("tr[data-metric=test_loss]:visible").count() == 2
    page.get_by_label("full", exact=True).check()
    assert page.get_by_role("heading", name="full against base").is_visible()


def test_examples_are_filtered_and_searched(chromium: Any, report: Path) -> None:
    page, _ = opened(chromium, report)
    box = page.locator("section[data-run=full] details.examples")
    box.locator("summary").click()
    total = box.locator("article").count()
    won = box.locator("article[data-outcome=better]").count()
    assert 0 < won < total
    box.get_by_label("Show").select_option("worse")
    assert box.locator("article:visible").count() == total - won == 1
    assert box.locator("output").text_content() == f"1 of {total}"
    box.get_by_label("Show").select_option("")
    box.get_by_label("Search").fill("QUESTION 2")
    assert box.locator("article:visible").count() == 1


def test_words_that_differ_are_marked_and_no_text_changes(chromium: Any, report: Path) -> None:
    page, _ = opened(chromium, report)
    box = page.locator("section[data-run=full] details.examples")
    sides = box.locator("article").first.locator(".reply")
    plain = sides.all_text_contents()
    box.locator("summary").click()
    sides.locator("ins").first.wait_for()
    assert sides.all_text_contents() == plain
    assert sides.nth(0).locator("del").all_text_contents() == ["five", "借"]
    assert sides.nth(1).locator("ins").all_text_contents() == ["new", "six", "贷"]
    box.get_by_label("Mark the words that differ").uncheck()
    assert sides.locator("ins, del").count() == 0 and sides.all_text_contents() == plain


def test_the_marks_leave_a_longest_common_subsequence(chromium: Any, tmp_path: Path) -> None:
    """Against the plain recursion over all choices in two texts of ten words."""
    texts = ["a b c a b b a d e f", "c b a b a c f e d a"]

    def longest(one: tuple[str, ...], two: tuple[str, ...]) -> int:
        if not one or not two:
            return 0
        if one[0] == two[0]:
            return 1 + longest(one[1:], two[1:])
        return max(longest(one[1:], two), longest(one, two[1:]))

    found = entries()[:2]
    for entry, text in zip(found, texts, strict=True):
        for row in entry.records["reference"]:
            row["output"] = text
    write_report(make_report(found), tmp_path)
    page, _ = opened(chromium, tmp_path)
    box = page.locator("section details.examples")
    box.locator("summary").click()
    sides = box.locator("article").first.locator(".reply")
    sides.locator("ins").first.wait_for()
    marked = [" ".join(sides.nth(n).locator(tag).all_text_contents()).split() for n, tag in enumerate(("del", "ins"))]
    kept = longest(*(tuple(text.split()) for text in texts))
    assert [10 - len(words) for words in marked] == [kept, kept]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing(scheme: str, width: int, chromium: Any, report: Path) -> None:
    """Contrast, names, roles, keyboard: WCAG 2.1 A and AA and axe's best practices, everything opened."""
    from axe_playwright_python.sync_playwright import Axe

    page, said = opened(chromium, report, width, color_scheme=scheme)
    for box in page.locator("details").all():
        box.evaluate("box => { box.open = true }")
    page.locator("ins").first.wait_for()
    page.get_by_role("button", name="difference").first.click()
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert shade == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 18, 18)"}[scheme]
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 20 and said == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_single_model_has_a_page(width: int, chromium: Any, tmp_path: Path) -> None:
    entry = _entry("base")
    write_report(make_report([replace(entry, records={})]), tmp_path)
    page, said = opened(chromium, tmp_path, width)
    assert "was measured alone" in page.locator(".verdicts").text_content() and said == []
