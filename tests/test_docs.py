"""What the documents say is so: the support table, the commands, the recipe that is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapters import support
from eval.engines.ask import ask
from eval.engines.cache import AnswerCache
from eval.metrics import reference
from eval.spec import Spec
from eval.suites import MODULES, Sample, suite
from eval.suites import reference as reference_suite
from recipes import load_text
from runner.cli import main
from tests.eval.fakes import RuleEngine, text

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
METRIC, SUITE = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_support_table_is_the_generated_one() -> None:
    shown = README.split(support.BEGIN)[1].split(support.END)[0].strip()
    assert shown == support.table()


def test_the_recipe_of_the_readme_is_valid() -> None:
    text = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert text and load_text(text[1].encode(), Path("readme.yaml")).recipe.name == "qwen3_4b_financial"


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"`recipe ([a-z]+)", README))))
def test_every_command_of_the_readme_exists(verb: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0


def test_the_chinese_readme_keeps_step_with_the_english_one() -> None:
    """The same sections, commands and code; only the words differ."""
    chinese = (ROOT / "README.zh.md").read_text(encoding="utf-8")
    assert chinese.count("\n## ") == README.count("\n## ")
    assert re.findall(r"^\| (`recipe .*?) \|", chinese, re.MULTILINE) == re.findall(
        r"^\| (`recipe .*?) \|", README, re.MULTILINE
    )
    shared = (r"```yaml\n.*?```", r"<!-- support table.*?end of support table -->")
    for pattern in shared:
        assert re.findall(pattern, chinese, re.DOTALL) == re.findall(pattern, README, re.DOTALL) != []
    commands = re.compile(r"`(?:recipe|make|eval\.|backend|python)[^`]*`")
    assert set(commands.findall(chinese)) == set(commands.findall(README))


def test_every_file_that_the_documents_link_exists() -> None:
    for document in ROOT.glob("*.md"):
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (ROOT / link).exists(), f"{document.name}: {link}"


def test_the_metric_of_the_contributing_guide_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """One function and one line: it is recorded and measured beside the others."""
    names = dict(vars(reference))
    exec(METRIC, names)
    monkeypatch.setitem(reference_suite.METRICS, "concision", (names["concision"], "words"))
    sample = Sample(id="0", shown={"reference": "Fifteen euros", "scorer": "rougeL"})
    record = reference_suite.record(sample, [{"text": "It is fifteen euros", "finished": True}])
    assert record["concision"] == 0.5
    assert reference_suite.measures([record], 42)["reference.concision"].value == 0.5


def test_the_suite_of_the_contributing_guide_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file and one line: it is asked, recorded and measured."""
    (tmp_path / "figures_of_the_guide.py").write_text(SUITE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(MODULES, "figures", "figures_of_the_guide")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "5 % of 300?", "answer": "15"}\n{"question": "2 + 2?", "answer": "4"}\n')
    module = suite("figures")
    samples = module.load(Spec(models=(), suites=(), data={"figures": str(rows)}), text(), 1000).samples
    answers = ask(samples, RuleEngine("5 % is 15.0"), AnswerCache(tmp_path / "answers.jsonl", {}), "figures")
    records = [module.record(sample, given) for sample, given in zip(samples, answers, strict=True)]
    assert module.measures(records, 42)["figures.accuracy"].value == 0.5
