"""Environments are built as pip is configured: from a company's own index, with its own certificate."""

from __future__ import annotations

import hashlib
import http.server
import os
import signal
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from runner.cli import main
from runner.failure import Failure
from runner.machine import environments, installed
from runner.machine.diagnose import installer_cause
from runner.machine.environments import Environment
from runner.machine.pip_settings import pip_settings, uv_environment

ROOT = Path(__file__).parents[2]


def wheel(directory: Path, name: str = "tiny", version: str = "1.0", size: int = 10) -> Path:
    """A wheel of one module, as `pip wheel` would make it."""
    directory.mkdir(parents=True, exist_ok=True)
    path, info = directory / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "#" * size,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(file, text)
    return path


@pytest.fixture
def company(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An index over TLS with a certificate of its own: its address, and the authority's file."""
    root = tmp_path / "index"
    path = wheel(root / "simple/tiny")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "index.html").write_text(f'<a href="{path.name}#sha256={digest}">{path.name}</a>')
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("localhost", 0), lambda *a: Quiet(*a, directory=str(root)))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}/simple", tmp_path / "ca.pem"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def as_on_a_fresh_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine's own, neither of pip nor of uv; and a small environment needs little room."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pip.conf").write_text("")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setattr(environments, "NEEDED_GB", 0)


def tiny(tmp_path: Path, text: str = "tiny==1.0\n") -> Environment:
    (tmp_path / "requirements.lock").write_text(text)
    return Environment(name="tiny", device="cpu", lock=tmp_path / "requirements.lock")


def test_an_environment_comes_from_the_index_that_pip_is_configured_with(
    tmp_path: Path, company: tuple[str, Path]
) -> None:
    address, authority = company
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {address}\ncert = {authority}\n")
    wanted = tiny(tmp_path)
    python = environments.ensure(wanted, print)
    assert subprocess.run([str(python), "-c", "import tiny"], check=False).returncode == 0
    assert installed.check(wanted) == []
    # And those that the Makefile makes, of the docs, of the browser, of the newest versions: by the same call.
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\nUV = $(BIN)/python -m runner.machine.pip_settings\n" in makefile and "/uv " not in makefile
    there = tmp_path / "there"
    for words in (["venv", "--quiet", str(there)], ["pip", "install", "--quiet", "--python", str(there), "tiny"]):
        done = subprocess.run(
            [sys.executable, "-m", "runner.machine.pip_settings", *words], cwd=ROOT, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert subprocess.run([str(there / "bin/python"), "-c", "import tiny"], check=False).returncode == 0


@pytest.mark.parametrize(
    "settings,lock,cause",
    [
        ("index-url = {address}", "tiny==1.0", "certificate is not trusted"),
        ("index-url = {address}\ncert = {authority}", "tiny==2.0", "does not have all that the lock names (tiny==2.0)"),
        ("index-url = {address}\ncert = {authority}", "other==1.0", "does not have all that the lock names"),
        ("index-url = https://127.0.0.1:9/simple", "tiny==1.0", "refused the connection"),
        ("index-url = https://no-such-host.invalid/simple", "tiny==1.0", "name is unknown"),
    ],
)
def test_the_causes_of_a_failed_build_are_told_apart(
    tmp_path: Path, company: tuple[str, Path], settings: str, lock: str, cause: str
) -> None:
    address, authority = company
    (tmp_path / "pip.conf").write_text(f"[global]\n{settings.format(address=address, authority=authority)}\n")
    wanted = tiny(tmp_path, f"{lock}\n")
    with pytest.raises(Failure) as caught:
        environments.ensure(wanted, print)
    assert cause in caught.value.cause
    assert not wanted.directory.exists()


@pytest.mark.parametrize(
    "text,cause",
    [
        ("error: failed to write: No space left on device (os error 28)", "disk full"),
        ("Because the current Python version (3.13) does not satisfy Python>=3.11,<3.13", "use 3.11 or 3.12"),
        ("HTTP status client error (403 Forbidden) for url", "other credentials"),
        ("operation timed out", "did not answer in time"),
        ("anything else", "see the log's last lines"),
    ],
)
def test_other_causes_are_read_from_the_log(text: str, cause: str) -> None:
    assert cause in installer_cause(text)


def test_wheels_in_a_folder_need_no_network(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    (tmp_path / "pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {tmp_path / 'wheels'}\n")
    environments.ensure(tiny(tmp_path), print)


def test_pips_settings_are_read_as_pip_resolves_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://a/simple\ntimeout = 7\n[install]\nextra-index-url =\n  https://b/x\n  https://c/y\n"
    )
    monkeypatch.setenv("PIP_INDEX_URL", "https://d/simple")
    found = pip_settings()
    assert found["index-url"] == "https://d/simple" and found["extra-index-url"].split() == [
        "https://b/x",
        "https://c/y",
    ]
    told = uv_environment({}, found)
    assert told["UV_DEFAULT_INDEX"] == "https://d/simple" and told["UV_HTTP_TIMEOUT"] == "7"
    assert told["UV_INDEX"] == "https://b/x https://c/y" and told["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_what_uv_was_told_itself_wins() -> None:
    settings = {"index-url": "https://a", "proxy": "http://p", "cert": "/pip.pem", "find-links": "/x /y"}
    env = {"UV_INDEX_URL": "https://b", "HTTPS_PROXY": "http://q", "SSL_CERT_FILE": "/all.pem"}
    told = uv_environment(env, settings)
    assert told == {"SSL_CERT_FILE": "/pip.pem", "UV_FIND_LINKS": "/x,/y"}


def test_a_build_that_is_killed_leaves_no_half_environment(tmp_path: Path) -> None:
    """At six moments; whoever comes next finds none, and builds a whole one."""
    for n in range(30):
        wheel(tmp_path / "wheels", f"tiny{n}", size=200_000)
    (tmp_path / "pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {tmp_path / 'wheels'}\n")
    wanted = tiny(tmp_path, "".join(f"tiny{n}==1.0\n" for n in range(30)))
    code = f"""
        from pathlib import Path
        from runner.machine import environments
        environments.NEEDED_GB = 0
        wanted = environments.Environment(name="tiny", device="cpu", lock=Path({str(wanted.lock)!r}))
        environments.ensure(wanted, print)
    """
    for moment in range(6):
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.DEVNULL)
        time.sleep(0.15 + moment * 0.08)
        child.send_signal(signal.SIGKILL if moment % 2 else signal.SIGTERM)
        child.wait()
        assert not wanted.ready or installed.check(wanted) == []
    environments.ensure(wanted, print)
    assert installed.check(wanted) == []


FULL = """
import subprocess, sys
from pathlib import Path
from runner.failure import Failure
from runner.machine import environments, installed
lock, disk, size = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
environments.NEEDED_GB = 0
wanted = environments.Environment(name="tiny", device="cpu", lock=lock)
try:
    environments.ensure(wanted, print)
except Failure as failure:
    print("SAID", failure)
print("LEFT", wanted.directory.exists(), wanted.ready)
subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
environments.ensure(wanted, print)
print("AFTER", installed.check(wanted), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small file system of its own")
@pytest.mark.parametrize("size", ["4k", "60k", "300k", "2m", "4m", "200m"])
def test_a_disk_that_fills_up_during_a_build_leaves_nothing_of_it(tmp_path: Path, size: str) -> None:
    """Wherever the room ends, from the lock file to the last package; once there is room, the build goes through."""
    for n in range(5):
        wheel(tmp_path / "wheels", f"tiny{n}", size=1_000_000)
    (tmp_path / "pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {tmp_path / 'wheels'}\n")
    lock = tiny(tmp_path, "".join(f"tiny{n}==1.0\n" for n in range(5))).lock
    (tmp_path / "disk").mkdir()
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", sys.executable, "-c", FULL, str(lock), str(tmp_path / "disk"), size],
        env=os.environ | {"RECIPE_CACHE": str(tmp_path / "disk/cache"), "UV_LINK_MODE": "copy"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    whole = size == "200m"
    assert f"LEFT {whole} {whole}" in done.stdout and "AFTER []" in done.stdout, done.stdout
    assert whole or "disk full" in done.stdout or "No space left" in done.stdout, done.stdout


def test_a_damaged_environment_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel(tmp_path / "wheels")
    wheel(tmp_path / "wheels", "other")
    (tmp_path / "pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {tmp_path / 'wheels'}\n")
    wanted = tiny(tmp_path, "tiny==1.0\nother==1.0\nabsent==1.0 ; sys_platform == 'win32'\n")
    environments.ensure(wanted, print)
    assert installed.check(wanted) == []
    packages = next(wanted.directory.glob("lib/python*/site-packages"))
    (packages / "tiny.py").unlink()
    (packages / "other-1.0.dist-info").rename(packages / "other-1.1.dist-info")
    assert installed.check(wanted) == [
        "tiny 1.0: 1 files missing or of another size, such as tiny.py",
        "other: expected 1.0, got 1.1",
    ]


def test_environments_that_no_lock_wants_are_pruned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "cache" / "environments"
    kept = environments.environment("eval", "cpu").directory
    for directory in (kept, root / "eval-any-py3.11-0123456789ab", root / "verl-cpu-py3.11-half"):
        directory.mkdir(parents=True)
        (directory / "file").write_text("x" * 1000)
    for directory in (kept, root / "eval-any-py3.11-0123456789ab"):
        (directory / "complete.json").write_text("{}")
    assert main(["setup", "--prune"]) == 0
    assert [path.name for path in root.iterdir() if path.is_dir()] == [kept.name]
    assert "freed 0.0 GB" in capsys.readouterr().err
