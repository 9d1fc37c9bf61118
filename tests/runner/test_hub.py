"""The Hub is asked once whether it is there, and only where something is of the Hub."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from recipes import load
from runner.machine.hub import of_hub, offline_if_unreachable, taken


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("HF_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")  # so that what is set here is taken back


def test_what_is_of_the_hub_is_known() -> None:
    assert of_hub(load("quickstart").recipe) == []
    given = ["model.path=acme/model", "data.train[0].path=acme/rows", "eval.suites=[perplexity,qmsum]"]
    assert of_hub(load("quickstart", given).recipe) == ["acme/model", "acme/rows", "the data of qmsum"]


def test_a_task_file_of_lm_eval_may_have_its_data_here(tmp_path: Path) -> None:
    here, there = tmp_path / "here.yaml", tmp_path / "there.yaml"
    here.write_text("task: a\ndataset_path: json\ndataset_kwargs: {data_files: {test: a.jsonl}}\n")
    there.write_text("task: b\ndataset_path: acme/rows\n")
    suites = ["lm_eval:gsm8k", f"lm_eval:{here}", f"lm_eval:{there}"]
    assert taken([], suites, {}) == ["the data of lm_eval:gsm8k", f"the data of lm_eval:{there}"]


def test_a_hub_that_is_not_there_is_told_and_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed}")
    said: list[str] = []
    offline_if_unreachable(["acme/model"], said.append)
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert "cannot be reached" in said[0] and "acme/model must be in its cache" in said[0]
    offline_if_unreachable(["acme/model"], said.append)
    assert len(said) == 1


def test_a_hub_that_answers_stays_online(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        said: list[str] = []
        offline_if_unreachable(["acme/model"], said.append)
    assert not os.environ["HF_HUB_OFFLINE"] and said == []


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy"])
def test_behind_a_proxy_nothing_is_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(name, "http://127.0.0.1:2")
    offline_if_unreachable(["acme/model"], lambda text: pytest.fail(text))
    assert not os.environ["HF_HUB_OFFLINE"]
