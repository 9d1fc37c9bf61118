"""report.html in headless Chromium: whole, escaped, and no wider than a phone. Needs Chromium: make test-browser."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from eval.report.files import write_report
from eval.report.tables import make_report
from tests.eval.test_report import EVIL, _entry

pytestmark = pytest.mark.browser

FRAME = """<!doctype html><title>waiting</title>
<iframe src="report.html" style="border: 0; width: {width}px; height: 800px"></iframe>
<script>
document.querySelector("iframe").onload = event => {{
  const page = event.target.contentDocument;
  const seen = [page.documentElement.scrollWidth, page.querySelectorAll("svg").length,
                page.querySelectorAll("script").length,
                page.body.textContent.includes("<script>alert(1)<" + "/script>")];
  document.title = seen.join(" ");
}};
</script>
"""


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    assert found, "Chromium is not installed"
    return found


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_reads_on_a_phone_and_a_desk(width: int, tmp_path: Path) -> None:
    entries = [_entry("base", evil=EVIL), _entry("lora", shift=-1.0, evil=EVIL), _entry("full", shift=-0.5)]
    write_report(make_report(entries), tmp_path)
    (tmp_path / "frame.html").write_text(FRAME.format(width=width), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    # Two files have different origins; a frame may be looked into only where both come from one server.
    serve = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = f"http://127.0.0.1:{server.server_port}/frame.html"
        done = subprocess.run([chromium(), *flags, page], capture_output=True, text=True, check=True, timeout=120)
        server.shutdown()
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title and title[1] != "waiting", done.stderr[-2000:]
    wide, plots, scripts, shown = title[1].split()
    assert int(wide) <= width, "the page scrolls sideways"
    assert int(plots) >= 2 and scripts == "0" and shown == "true"
