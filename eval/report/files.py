"""A report as files: for programs evaluation_results.json, report.json and report.csv; to read, Markdown and HTML."""

from __future__ import annotations

from pathlib import Path

from eval.report.data import report_csv, report_json
from eval.report.html import REPLIES, html
from eval.report.markdown import markdown
from eval.report.replies import fitting
from eval.report.tables import Report, evaluation_results
from recipes.files import write_json, write_text


def write_report(report: Report, directory: Path) -> list[Path]:
    """Write the five files; returns their paths, report.html last."""
    write_json(directory / "evaluation_results.json", evaluation_results(report.entries))
    write_json(directory / "report.json", report_json(report, examples=fitting(report), replies=REPLIES))
    write_text(directory / "report.csv", report_csv(report))
    write_text(directory / "evaluation_report.md", markdown(report))
    write_text(directory / "report.html", html(report))
    names = ("evaluation_results.json", "report.json", "report.csv", "evaluation_report.md", "report.html")
    return [directory / name for name in names]
