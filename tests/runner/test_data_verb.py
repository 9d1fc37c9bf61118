"""`recipe data`: checks, previews' text, and samples and conversions that read back as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.encode import BadRow
from recipes.errors import UserError
from runner import cli
from runner.data.formats import convert
from runner.data.inspected import Part, Preview, Span
from runner.data.languages import language
from runner.data.read import read
from runner.data.rewrite import WRITERS, rewritten, rows_of
from runner.data.spec import source_of
from runner.training.inspect import check_file, file_spec
from runner.training.views import check_text, percentile, preview_text, refusal

ROWS = [
    {"instruction": "Define APR.", "output": "It is the yearly cost of the loan."},
    {"instruction": "", "output": "x"},
    {"instruction": "Define APR.", "output": "It is the yearly cost of the loan.", "id": 3},
]


def write(directory: Path, *lines: object) -> str:
    file = directory / "rows.jsonl"
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(file)


@pytest.mark.parametrize(
    "method,overlong,refused,told",
    [
        ("sft", "drop", True, True), ("sft", "error", True, True), ("sft", "truncate", False, True),
        ("sft", "middle", False, True), ("pretrain", "drop", False, False), ("grpo", "drop", False, True),
    ],
)  # fmt: skip
def test_rows_that_are_all_too_long_are_refused_where_nothing_cuts_them(
    tmp_path: Path, method: str, overlong: str, refused: bool, told: bool
) -> None:
    file = write(tmp_path, ROWS[0])
    found = replace(check_file(file, None, 50, print), method=method, lengths={"900": 1}, tokens=900)
    data = replace(file_spec(file).data, max_length=512, overlong=overlong)
    assert ("every row is longer than data.max_length" in refusal(found, data)) == refused
    assert ("data.overlong: drop leaves out" in check_text(found)) == told


def test_a_check_tells_the_format_and_every_problem_with_its_line(tmp_path: Path) -> None:
    file = write(tmp_path, *ROWS, "nojson")
    found = check_file(file, None, 50, print)
    assert set(found.formats.values()) == {"alpaca"}
    assert (found.rows, found.usable, found.bad, found.duplicates) == (4, 2, 2, 1)
    assert [text.partition(": ")[0] for text in found.problems] == [f"{file}:2", f"{file}:4"]
    assert found.repeats[0].startswith(f"{file}:3")
    assert found.unused_columns == {"id": 1}
    assert found.languages == {"English": 2}


def test_a_text_with_a_class_is_told_for_what_it_is_taken(tmp_path: Path) -> None:
    told = check_text(check_file(write(tmp_path, {"text": "A good film.", "label": 0}), None, 50, print))
    assert "format: text (for method: pretrain)" in told and "not used: label (1)" in told
    assert "for a text and its class, set format: alpaca and columns: {instruction: YOUR TEXT, output: label}" in told


def test_problems_beyond_those_shown_are_counted(tmp_path: Path) -> None:
    found = check_file(write(tmp_path, ROWS[0], *[ROWS[1]] * 7), None, 3, print)
    assert len(found.problems) == 3 and found.bad == 7
    assert "… and 4 more" in check_text(found)


@pytest.mark.parametrize(
    "lines,code",
    [
        ([ROWS[0]], 0),
        ([ROWS[0], ROWS[1]], 0),
        ([ROWS[1]], 2),
        ([{"a": 1}], 2),
        ([], 2),
        ([ROWS[0], '{"text": "\ud800'], 2),
    ],
)
def test_a_check_exits_2_where_nothing_could_be_trained(
    lines: list[object], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert cli.main(["data", "check", str(file)]) == code
    assert ("nothing could be trained" in capsys.readouterr().err) == (code == 2)


def test_a_file_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        check_file(str(tmp_path / "none.jsonl"), None, 50, print)


@pytest.mark.parametrize("name", ["rows.jsonl", "r*.jsonl", ".", "../{here}/rows.jsonl"])
def test_what_a_child_elsewhere_reads_is_the_file_that_was_meant_here(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, ROWS[0])
    (path,) = file_spec(name.format(here=tmp_path.name), "some/model").data.train[0].paths
    monkeypatch.chdir("/")
    assert [row.value for row in read(source_of(path))] == [ROWS[0]]


def test_an_empty_path_is_not_this_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, ROWS[0])
    with pytest.raises(UserError, match="'': no such file"):
        check_file("", None, 50, print)


def test_what_rows_write_to_the_terminal_is_shown_not_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, ROWS[0], {"instruction": "a", "output": "b", "\x1b[2J": "c"}, {"messages": "\x1b]0;x\x07"})
    cli.main(["data", "check", file])
    assert "\x1b" not in capsys.readouterr().out


PART = Part(
    name="", ids=(1, 2, 3), loss=(False, True, True), pieces=("q", "\x1b[2Ja", "\n"),
    spans=(Span(text="q", loss=False), Span(text="\x1b[2Ja\n", loss=True)),
)  # fmt: skip
PREVIEW = Preview(row=2, place="f:2", truncated=False, parts=(PART,), notes=("n\x07",), problems=())


def test_a_preview_marks_what_has_loss_and_runs_no_escapes() -> None:
    plain = preview_text(PREVIEW, colour=False, ids=True)
    assert "3 tokens, 2 with loss" in plain and "q⟦\\x1b[2Ja\n⟧" in plain and "note: n\\x07" in plain
    assert "\x1b" not in plain
    coloured = preview_text(PREVIEW, colour=True, ids=True)
    assert coloured.count("\x1b") == 2 and "q\x1b[32m\\x1b[2Ja\n\x1b[0m" in coloured


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.sampled_from([0.5, 0.95]))
def test_a_percentile_is_the_nearest_rank_of_the_sorted_lengths(lengths: list[int], share: float) -> None:
    wanted = next(value for n, value in enumerate(sorted(lengths), 1) if n >= share * len(lengths))
    assert percentile({length: lengths.count(length) for length in lengths}, share) == wanted


@pytest.mark.parametrize(
    "text,name",
    [
        ("The cost of the loan is that which you pay.", "English"),
        ("Der Zins ist nicht das, was die Bank mit dem Geld verdient.", "German"),
        ("Le taux est ce que la banque demande pour un prêt.", "French"),
        ("利息也生利息。", "Chinese"),
        ("複利とは利息にも利息が付くことです。", "Japanese"),
        ("Это проценты.", "Cyrillic script"),
        ("42 %", "no words"),
    ],
)
def test_the_language_of_a_reply_is_told_roughly(text: str, name: str) -> None:
    assert language(text) == name


@pytest.mark.parametrize("name", WRITERS)
def test_a_starter_file_is_of_its_format_and_converts_to_each_of_its_kind(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "starter.jsonl"
    assert cli.main(["data", "sample", "20", "--format", name, "-o", str(file)]) == 0
    found = check_file(str(file), None, 50, print)
    assert list(found.formats.values()) == [name]
    assert (found.rows, found.usable, found.duplicates, found.unused_columns) == (20, 20, 0, {})
    for to in WRITERS:
        code = cli.main(["data", "convert", str(file), "--to", to])
        shown = capsys.readouterr()
        assert code == (0 if rows_of(to) is rows_of(name) else 2)
        if code:
            assert f"{file}:1: rows of {name} are no {to}" in shown.err and not shown.out
            continue
        back = [convert(json.loads(line), to, source_of("x")).row for line in shown.out.splitlines()]
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert back == [convert(row, name, source_of("x")).row for row in rows]


TEXT = st.text(min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
TURNS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)


@given(
    TURNS, st.none() | TEXT, st.booleans(), st.sampled_from(["alpaca", "prompt_response", "messages", "conversations"])
)
def test_a_conversation_reads_back_as_it_was_or_is_refused(
    turns: list[tuple[str, str]], system: str | None, silent: bool, to: str
) -> None:
    """Only alpaca has no place for a reply's weight; nothing else of these may be refused."""
    given = [{"role": "system", "content": system}] if system else []
    for question, answer in turns:
        given += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    raw = {"messages": [*given[:-1], {**given[-1], **({"weight": 0} if silent else {})}]}
    row = convert(raw, "messages", source_of("x")).row
    if silent and to == "alpaca":
        with pytest.raises(BadRow, match="does not fit alpaca"):
            rewritten(row, "messages", to)
        return
    assert convert(rewritten(row, "messages", to), to, source_of("x")).row == row


def test_a_row_that_does_not_fit_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = {"role": "assistant", "content": "x", "reasoning_content": "hm"}
    user = {"role": "user", "content": "q"}
    file = write(tmp_path, {"messages": [user, {**call, "reasoning_content": ""}]}, {"messages": [user, call]})
    out = tmp_path / "out.jsonl"
    assert cli.main(["data", "convert", file, "--to", "alpaca", "-o", str(out)]) == 2
    told = f"{file}:2: it does not fit alpaca, which has no place for reasoning_content"
    assert told in capsys.readouterr().err and not out.exists()
    first = write(
        tmp_path, {"messages": [{"role": "assistant", "content": "hi"}, user, {"role": "assistant", "content": "a"}]}
    )
    assert cli.main(["data", "convert", first, "--to", "alpaca"]) == 2
    assert "alpaca, which has no place for turns of assistant, user, assistant" in capsys.readouterr().err


def test_files_of_other_splits_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d").mkdir()
    for name in ("train", "validation"):
        (tmp_path / f"d/{name}.jsonl").write_text((json.dumps(ROWS[0]) + "\n") * 2)
    source, out = str(tmp_path / "d"), str(tmp_path / "x.jsonl")
    for more in (
        ["check", source],
        ["convert", source, "--to", "messages", "-o", out],
        ["split", source, "--fraction", "0.5"],
    ):
        assert cli.main(["data", *more]) == 0
        shown = capsys.readouterr()
        assert "not read, of other splits: validation.jsonl (validation)" in shown.out + shown.err, more


def test_a_path_that_cannot_be_looked_up_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["check"], ["split", "--fraction", "0.5"], ["convert", "--to", "messages"]):
        assert cli.main(["data", verb[0], "a" * 300 + ".jsonl", *verb[1:]]) == 2
        assert "File name too long" in capsys.readouterr().err


def test_rows_of_ranked_replies_stay_whole_and_no_score_is_made_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "prompt": "q",
        "completions": [{"response": c, "overall_score": n} for c, n in (("a", 9), ("b", 8), ("c", 6))],
    }
    file = write(tmp_path, row)
    assert cli.main(["data", "convert", file, "--to", "ranked"]) == 0
    assert json.loads(capsys.readouterr().out) == row
    assert cli.main(["data", "convert", file, "--to", "preference"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"prompt": "q", "chosen": "a", "rejected": "c"}
    assert "not taken along: scores and ranks" in shown.err
    pair = write(tmp_path, {"prompt": "q", "chosen": "a", "rejected": "c"})
    assert cli.main(["data", "convert", pair, "--to", "ranked"]) == 0
    assert json.loads(capsys.readouterr().out) == {"prompt": "q", "completions": ["a", "c"], "ranks": [1, 2]}


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    file = write(tmp_path, ROWS[0])
    before = Path(file).read_text()
    assert cli.main(["data", "sample", "2", "--format", "text", "-o", file]) == 2
    assert Path(file).read_text() == before


@given(st.integers(2, 60), st.floats(0.01, 0.6))
def test_a_split_has_every_row_once(count: int, fraction: float) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        rows = [{"text": str(n), "more": n} for n in range(count)]
        file = write(Path(name), *rows)
        code = cli.main(["data", "split", file, "--fraction", str(fraction)])
        found = [
            [json.loads(line) for line in (Path(name) / f"rows.{part}.jsonl").read_text().splitlines()]
            for part in ("train", "validation")
        ]
        assert code == 0 and all(found)
        assert sorted(found[0] + found[1], key=lambda row: int(row["text"])) == rows
        assert len(found[1]) == max(1, round(count * fraction))


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.txt", "rows.jsonl.gz", "rows", "rows.yaml"])
def test_json_lines_are_written_under_no_other_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", "convert", write(tmp_path, ROWS[0]), "--to", "messages", "-o", str(tmp_path / name)]) == 2
    assert "let its name end in .jsonl" in capsys.readouterr().err and not (tmp_path / name).exists()


@pytest.mark.parametrize(
    "url,told",
    [
        ("file:///tmp/rows.jsonl", "cannot read file://; allowed: hf://, s3://, gs://"),
        ("s3://me:opensesame@bucket/rows.jsonl", "must not stand in an address"),
        ("gs://", "names no bucket"),
    ],
)
def test_a_stores_address_is_told_as_a_recipes_is(url: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["check", url], ["check", url, "--model", "m"], ["convert", url, "--to", "messages"]):
        assert cli.main(["data", *words]) == 2
        said = capsys.readouterr().err
        assert told in said and "opensesame" not in said


def test_what_is_told_of_a_mistake_holds_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", "quickstart", "--set", "model.path=https://me:opensesame@host/model"]) == 2
    said = capsys.readouterr().err
    assert "neither a directory here nor a hub id" in said and "opensesame" not in said


def test_rows_that_fit_no_better_than_the_first_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, *[{"instruction": f"q{n}", "output": "a"} for n in range(70)])
    assert cli.main(["data", "convert", file, "--to", "preference"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "are no preference" in said and said.endswith("conversations … and 69 more rows like this")


def test_a_pattern_is_not_split_into_files_that_are_patterns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, *ROWS)
    assert cli.main(["data", "split", str(tmp_path / "*.jsonl"), "--fraction", "0.5"]) == 2
    assert "give a file or a directory" in capsys.readouterr().err and len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_not_there_is_told_with_the_one_that_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, ROWS[0])
    assert cli.main(["data", "check", file.replace("rows.", "row.")]) == 2
    assert "did you mean 'rows.jsonl'?" in capsys.readouterr().err
