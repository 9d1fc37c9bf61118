"""`recipe serve` without a server: where it is to listen."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from runner.cli import main
from runner.runs import serve
from tests.runner.test_merged import adapted


@pytest.mark.parametrize("host", ["no.such.invalid", "a..b", "x" * 300, "::zz", "1.2.3.4.5"])
def test_a_host_that_is_none_is_told(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapted(tmp_path)
    assert main(["serve", "r", "--runs-dir", str(tmp_path), "--host", host]) == 2
    assert f"--host {host}: " in capsys.readouterr().err


@pytest.mark.parametrize("family,host", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_that_is_taken_is_seen_by_either_kind_of_address(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as taken:
        try:
            taken.bind((host, 0))
        except OSError:
            pytest.skip(f"no address {host} on this machine")
        port = taken.getsockname()[1]
        assert not serve._answers(host, port)
        taken.listen()
        assert serve._answers(host, port)
