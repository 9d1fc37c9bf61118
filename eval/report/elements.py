"""The parts of report.html: tables, examples and the page around them; every text of others is escaped here.

What belongs to one run or metric bears its name (`data-run`, `data-metric`), by which page.js picks.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import Literal

from eval.report.replies import Example, Shown, cut
from eval.report.tables import ARROWS

MAX_TEXT = 2000  # characters of a reply
READ = {ARROWS["lower"]: "lower is better", ARROWS["higher"]: "higher is better"}
Runs = Literal["columns", "rows", "none"]


def page(body: str) -> str:
    """The whole file. Replies are hostile text, so only what bears our own hashes may run or style.

    The policy allows one script and one style sheet by hash, and nothing else: no attribute of an element is run, no
    other script, and nothing is fetched, whatever a reply holds and however it got past the escaping.
    """
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; script-src '{sha256(script)}'; style-src '{sha256(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation report</title><style>{style}</style></head>\n"
        f"<body><main>\n{body}\n</main><script>{script}</script></body></html>\n"
    )


@cache
def _asset(name: str) -> str:
    return resources.files("eval.report").joinpath(name).read_text(encoding="utf-8")


def sha256(text: str) -> str:
    """The hash by which a content security policy knows an inline script or style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def named(kind: Literal["run", "metric"], name: str) -> str:
    """The attribute by which page.js finds what belongs to a run or a metric."""
    return f' data-{kind}="{escape(name, quote=True)}"'


def table(
    rows: Sequence[Sequence[str]], title: str, *, metrics: bool = False, runs: Runs = "none", models: Sequence[str] = ()
) -> str:
    """A table that scrolls by itself; its first row is the header and its first column names the rows.

    metrics: the rows are metrics, with arrows. runs: which of rows or columns are the models.
    """
    header, *body = rows
    owners = [named("run", text) if runs == "columns" and text in models else "" for text in header]
    head = "".join(f'<th scope="col"{own}>{escape(text)}</th>' for text, own in zip(header, owners, strict=True))
    lines = []
    for name, *cells in body:
        metric, _, side = name.rpartition(" ") if metrics and name[-1:] in READ else (name, "", "")
        own = named("metric", metric) if metrics else named("run", name) if runs == "rows" else ""
        shown = [_td(*cell) for cell in zip(cells, header[1:], owners[1:], strict=True)]
        lines.append(f'<tr{own}><th scope="row">{_breaking(metric)}{arrow(side)}</th>{"".join(shown)}</tr>')
    told = escape(title, quote=True)
    return (
        f'<div class="wide" role="group" tabindex="0" aria-label="{told}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def arrow(side: str) -> str:
    """The arrow to a metric's better side, which is read out in words."""
    return f' <span aria-hidden="true">{side}</span><span class="read">({READ[side]})</span>' if side else ""


def _breaking(name: str) -> str:
    """A name that may break behind its dots, colons, commas and underscores, where a phone leaves it little room."""
    return re.sub(r"(?<=[.:,_/])(?=\w)", "<wbr>", escape(name))


def _td(text: str, column: str, own: str) -> str:
    word = text.partition(" ")[0]
    kind = f' class="{word}"' if column == "verdict" and word in ("better", "worse") else ""
    return f"<td{own}{kind}>{escape(text)}</td>"


def examples(shown: Shown, run: str) -> str:
    """Examples that a reader opens; page.js adds search, filters and the words that differ."""
    few = len(shown.examples) < shown.total
    told = f"<p>{len(shown.examples)} of {shown.total} are shown.</p>" if few else ""
    own = named("run", run) + named("metric", shown.metric)
    body = "".join(map(_example, shown.examples))
    return f'<details class="examples"{own}><summary>{escape(shown.title)}</summary>{told}{body}</details>'


def _example(example: Example) -> str:
    outcome = {True: "better", False: "worse", None: ""}[example.won]
    moved = "" if example.difference is None else f' <b class="{outcome}">{example.difference:+.3g}, {outcome}</b>'
    sides = "".join(
        f'<div><b>{escape(name)}</b><p class="reply">{escape(cut(text, MAX_TEXT))}</p></div>'
        for name, text in example.replies
    )
    wanted = f'<p class="asked">Reference: {escape(cut(example.reference, MAX_TEXT))}</p>' if example.reference else ""
    return (
        f'<article data-outcome="{outcome}"><p class="asked">{escape(example.id)}: {escape(example.asked)}{moved}</p>'
        f'<div class="pair">{sides}</div>{wanted}</article>'
    )
