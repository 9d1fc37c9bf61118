"""Secrets: taken out of logs by their names and by their shapes, and given to no child that does not need them."""

from __future__ import annotations

import pytest

from runner.machine.process import clean_environment
from runner.machine.secrets import HIDDEN, redact, secrets, without_strangers

NAMED = [
    "HF_TOKEN", "JUDGE_KEY", "OPENAI_KEY", "OPENAI_API_KEY", "MYSQL_PWD", "SSH_PRIVATE_KEY", "GITHUB_PAT", "JWT",
    "AUTHORIZATION", "MY_PASSPHRASE", "AZURE_SAS", "COOKIE", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "SESSION_ID",
    "MY_APIKEY", "CREDENTIALS", "SENTRY_DSN",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_a_variable_named_like_a_secret_is_taken_out(name: str) -> None:
    env = {name: "plain-looking"}
    assert redact("it is plain-looking here", secrets(env)) == f"it is {HIDDEN} here"


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "PWD", "OLDPWD", "SSH_CONNECTION", "SSH_AUTH_SOCK", "TOKENIZERS_PARALLELISM", "LANG",
             "KEYBOARD", "MONKEY", "HF_TOKEN_PATH", "RAY_AUTH_TOKEN_PATH", "XDG_SESSION_ID"]
)  # fmt: skip
def test_other_variables_stay_readable(name: str) -> None:
    assert redact("see /some/where/else", secrets({name: "/some/where/else"})) == "see /some/where/else"


@pytest.mark.parametrize(
    "text",
    [
        "hf_AbCdEfGhIjKlMnOpQrStUv",
        "sk-proj-abcdefghij0123456789",
        "ghp_abcdefghij0123456789ABCD",
        "github_pat_11ABCDEFG0abcdefghijkl",
        "glpat-abcdefghij0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123",
    ],
)
def test_what_looks_like_a_token_is_taken_out_wherever_it_comes_from(text: str) -> None:
    assert redact(f"with {text}.", []) == f"with {HIDDEN}."


def test_the_password_of_an_address_is_taken_out_and_the_address_stays() -> None:
    proxy = "http://user:pa55word@proxy.example:8080/x"
    assert redact(f"via {proxy}", secrets({"HTTPS_PROXY": proxy})) == f"via http://{HIDDEN}@proxy.example:8080/x"


def test_each_line_of_a_long_value_and_a_short_one_are_taken_out() -> None:
    env = {"SSH_PRIVATE_KEY": "first line\nsecond line", "MY_PASSWORD": "abcd", "A_TOKEN": "x"}
    assert redact("abcd, second line, x", secrets(env)) == f"{HIDDEN}, {HIDDEN}, x"


def test_a_child_gets_what_it_needs_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "MYSQL_PWD", "JUDGE_KEY", "PLAIN"):
        monkeypatch.setenv(name, "value")
    monkeypatch.setenv("RECIPE_PASS_ENV", "OPENAI_API_KEY")
    got = clean_environment(needed=["JUDGE_KEY"])
    assert {"HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "JUDGE_KEY", "PLAIN"} <= got.keys()
    assert "MYSQL_PWD" not in got
    assert "DATABASE_URL" not in without_strangers({"DATABASE_URL": "postgres://a:b@c/d"})
