"""A report as files: evaluation_results.json for programs, evaluation_report.md and report.html for people."""

from __future__ import annotations

from pathlib import Path

from eval.report.html import html
from eval.report.markdown import markdown
from eval.report.tables import Report, evaluation_results
from recipes.files import write_json, write_text


def write_report(report: Report, directory: Path) -> list[Path]:
    """Write the three files; returns their paths."""
    paths = [directory / name for name in ("evaluation_results.json", "evaluation_report.md", "report.html")]
    write_json(paths[0], evaluation_results(report.entries))
    write_text(paths[1], markdown(report))
    write_text(paths[2], html(report))
    return paths
