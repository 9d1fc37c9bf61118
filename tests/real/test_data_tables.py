"""What pyarrow reads: parquet, Arrow and zstd, whole, damaged and hostile, beside its own reading of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import inside

pytestmark = pytest.mark.real
DAMAGED = 600 if os.environ.get("RECIPE_THOROUGH") else 60

SETUP = """
import json, random, resource, sys
from pathlib import Path
import datasets, pyarrow as pa, pyarrow.feather, pyarrow.ipc, pyarrow.parquet as pq
from runner.data.spec import source_of
from runner.data.read import BadData, read
datasets.disable_progress_bars()

def found(path, split="train"):
    try:
        rows = list(read(source_of(path, split=split)))
    except BadData as error:
        return str(error)
    for file in {row.file for row in rows if row.where.startswith("row ")}:
        where = [row.where for row in rows if row.file == file]
        assert where == [f"row {n}" for n in range(1, len(where) + 1)]
    return [row.value for row in rows]

ROWS = [
    {"prompt": f"q{n} \\u4e2d", "n": n, "score": n / 7, "none": None, "bytes": b"\\xff" * n,
     "messages": [{"role": "user", "content": "x" * n}] * (n % 3)} for n in range(100)
]
"""


def child(python: Path, code: str, tmp_path: Path, *arguments: str) -> Any:
    return json.loads(inside(python, SETUP + code, *arguments, cwd=tmp_path).splitlines()[-1])


def test_parquet_and_saved_data_sets_hold_the_rows_that_went_in(llamafactory_python: Path, tmp_path: Path) -> None:
    code = """
pq.write_table(pa.Table.from_pylist(ROWS), "a.parquet", row_group_size=33)
assert found(Path("a.parquet")) == ROWS
whole = datasets.Dataset.from_list(ROWS)
whole.save_to_disk("saved", num_shards=3)
assert found(Path("saved")) == ROWS
datasets.DatasetDict({"train": whole.select(range(60)), "test": whole.select(range(60, 100))}).save_to_disk("both")
assert found(Path("both")) == ROWS[:60]
assert found(Path("both"), "test") == ROWS[60:]
whole.filter(lambda row: row["n"] % 2).shuffle(seed=1).save_to_disk("odd")
assert sorted(row["n"] for row in found(Path("odd"))) == list(range(1, 100, 2))
twice = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
pq.write_table(twice, "twice.parquet")
print(json.dumps([found(Path("both"), "dev"), found(Path("twice.parquet"))]))
"""
    no_split, twice = child(llamafactory_python, code, tmp_path)
    assert "no split 'dev'; there: train, test" in no_split
    assert "twice.parquet: column 'a' stands twice" in twice


def test_arrow_files_of_each_format_hold_the_rows_that_went_in(llamafactory_python: Path, tmp_path: Path) -> None:
    code = """
table = pa.Table.from_pylist(ROWS)
with pa.ipc.new_stream("a.arrow", table.schema) as out:
    out.write_table(table, max_chunksize=33)
with pa.ipc.new_file("b.ARROW", table.schema) as out:
    out.write_table(table, max_chunksize=33)
with pa.ipc.new_file("c.arrow", table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as out:
    out.write_table(table)
pa.feather.write_feather(table, "d.feather", compression="lz4")
coded = pa.table({"word": pa.array(["a", "b", "a"] * 40).dictionary_encode()})
pa.feather.write_feather(coded, "coded.feather")
for name in ("a.arrow", "b.ARROW", "c.arrow", "d.feather"):
    assert found(Path(name)) == ROWS, name
assert found(Path("coded.feather")) == coded.to_pylist()
Path("train").mkdir()
datasets.Dataset.from_list(ROWS[:60]).save_to_disk("saved")
next(Path("saved").glob("*.arrow")).rename("train/0.arrow")
pq.write_table(table.slice(60), "train/1.parquet")
assert found(Path("train")) == ROWS
assert found(Path("*.ARROW")) == ROWS
Path("old.feather").write_bytes(b"FEA1" + bytes(60))
Path("cut.arrow").write_bytes(Path("b.ARROW").read_bytes()[:-100])
Path("none.arrow").write_bytes(b"")
print(json.dumps([found(Path(name)) for name in ("old.feather", "cut.arrow", "none.arrow")]))
"""
    old, cut, none = child(llamafactory_python, code, tmp_path)
    assert "old.feather: Feather of version 1; write it again" in old
    assert "cut.arrow: no Arrow data, as datasets and Feather write them: " in cut
    assert "none.arrow: no Arrow data, as datasets and Feather write them: " in none


def test_zstd_holds_the_rows_that_went_in(llamafactory_python: Path, tmp_path: Path) -> None:
    """In one frame and in several, of the library's own writing and of the command's."""
    code = """
import shutil, subprocess, tracemalloc
rows = [{"n": n, "text": chr(0x4e00 + n) * 9} for n in range(5000)]
lines = "".join(json.dumps(row, ensure_ascii=False) + "\\n" for row in rows)
def packed(text, encoding="utf-8"):
    return pa.compress(text.encode(encoding), codec="zstd", asbytes=True)
def write(name, data):
    Path(name).write_bytes(data)
    return found(Path(name))
assert write("a.jsonl.zst", packed(lines)) == rows
assert write("b.JSONL.ZST", packed(lines[:5000]) + packed(lines[5000:])) == rows
assert write("c.json.zst", packed(json.dumps({"version": 1, "data": rows}))) == rows
assert write("d.csv.zst", packed("n,text\\n" + "".join(f"{r['n']},{r['text']}\\n" for r in rows), "utf-16")) == [
    {"n": str(row["n"]), "text": row["text"]} for row in rows]
assert write("e.txt.zst", packed("a\\nb\\n\\nc")) == [{"text": "a\\nb"}, {"text": "c"}]
if shutil.which("zstd"):
    Path("f.jsonl").write_text(lines)
    subprocess.run(["zstd", "-q", "--long=27", "-19", "f.jsonl"], check=True)
    assert found(Path("f.jsonl.zst")) == rows
    whole = Path("f.jsonl.zst").read_bytes()
    flipped = write("f.jsonl.zst", whole[:999] + bytes([whole[999] ^ 8]) + whole[1000:])
    assert isinstance(flipped, str) and "f.jsonl.zst" in flipped, "its checksum tells"
good = packed(lines)
refused = [write("g.jsonl.zst", bad) for bad in (good[: len(good) // 2], good[:-1], good + b"more", lines.encode())]
bomb = pa.CompressedOutputStream("bomb.jsonl.zst", "zstd")
for _ in range(200):
    bomb.write(b"x" * (1 << 20))
bomb.write(b'\\n{"n": 1}\\n')
bomb.close()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(long, last) = [(row.value, row.problem) for row in read(source_of("bomb.jsonl.zst"))]
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert last == ({"n": 1}, "")
print(json.dumps([refused, long[1], grown, Path("bomb.jsonl.zst").stat().st_size]))
"""
    refused, long, grown, size = child(llamafactory_python, code, tmp_path)
    for text in refused:
        assert text.startswith("g.jsonl.zst: damaged zstd: "), text
    assert long == "a line of more than 64 MB" and size < 1 << 20
    assert grown < 250 << 10, "kilobytes, of 200 MB in one line"


def test_files_of_a_store_are_read_as_those_here(llamafactory_python: Path, tmp_path: Path) -> None:
    """fsspec's own store in memory: what lists, opens and reads files is the same for each."""
    code = """
import fsspec, gzip
from runner.data.read import files_of
store = fsspec.filesystem("memory")
def put(name, data):
    with store.open(name, "wb") as out:
        out.write(data)
lines = "".join(json.dumps({"n": n}) + "\\n" for n in range(3))
put("/b/d/train-0.JSONL.gz", gzip.compress(lines.encode()))
put("/b/d/train-1.jsonl.zst", pa.compress(lines.encode("utf-16"), codec="zstd", asbytes=True))
put("/b/d/test.csv", b"n\\n7\\n")
put("/b/d/README.md", b"no data")
put("/b/d/.cache/x.jsonl", b"no data")
pq.write_table(pa.Table.from_pylist(ROWS), store.open("/b/a.parquet", "wb"))
pa.feather.write_feather(pa.Table.from_pylist(ROWS), store.open("/b/a.feather", "wb"))
three = [{"n": n} for n in range(3)]
assert found("memory://b/d") == three * 2
assert found("memory://b/d/*.gz") == three
for url, split in (("memory://b/d/test.csv", "train"), ("memory://b/d", "test"), ("memory://b/d/t*", "test")):
    assert found(url, split) == [{"n": "7"}]
assert found("memory://b/a.parquet") == found("memory://b/a.feather") == ROWS
left = files_of(source_of("memory://b/d"))[0].left_out
assert {name: [str(file) for file in files] for name, files in left.items()} == {"test": ["memory:///b/d/test.csv"]}
put("/b/bad.json", b"[1")
print(json.dumps([found(url) for url in (
    "memory://b/nothing.jsonl", "memory://b/d/README.md", "memory://b/d/*.xml", "memory://b/bad.json", "s3://b/a.jsonl")]))
"""
    nothing, readme, xml, bad, s3 = child(llamafactory_python, code, tmp_path)
    assert nothing == "memory://b/nothing.jsonl: nothing there; check the name, and your access"
    assert readme.startswith("memory:///b/d/README.md: cannot read .md; allowed: ")
    assert xml.startswith("memory://b/d/*.xml: nothing there")
    assert bad.startswith("memory:///b/bad.json:1: not JSON: the file ends inside the array")
    assert s3.startswith(
        "s3://b/a.jsonl: needs the package s3fs, which this environment lacks; copy the files here, or"
    )


@pytest.mark.thorough
def test_damaged_tables_end_in_rows_or_in_an_error_with_the_file(llamafactory_python: Path, tmp_path: Path) -> None:
    code = """
choose = random.Random(1)
pq.write_table(pa.Table.from_pylist(ROWS[:9]), "a.parquet")
datasets.Dataset.from_list(ROWS[:9]).save_to_disk("saved")
parquet, arrow = Path("a.parquet"), next(Path("saved").glob("*.arrow"))
counts = {"rows": 0, "refused": 0}
for file, whole in ((parquet, Path("a.parquet")), (arrow, Path("saved"))):
    good = file.read_bytes()
    for n in range(int(sys.argv[1])):
        bad = bytearray(good)
        for _ in range(choose.randint(1, 3)):
            at = choose.randrange(len(bad) + 1)
            kind = choose.choice(["cut", "flip", "insert", "delete"])
            if kind == "cut":
                del bad[at:]
            elif kind == "flip" and at < len(bad):
                bad[at] ^= 1 << choose.randrange(8)
            elif kind == "insert":
                bad[at:at] = choose.randbytes(4)
            else:
                del bad[at : at + choose.randint(1, 9)]
        file.write_bytes(bad)
        result = found(whole)
        if isinstance(result, str):
            assert result.startswith(str(file)), result
            counts["refused"] += 1
            continue
        counts["rows"] += 1
        if file is parquet:
            assert repr(result) == repr(pq.read_table(file).to_pylist())
        else:
            assert repr(result) == repr(pa.ipc.open_stream(pa.memory_map(str(file))).read_all().to_pylist())
print(json.dumps(counts))
"""
    counts = child(llamafactory_python, code, tmp_path, str(DAMAGED))
    assert counts["refused"] > DAMAGED / 4


def test_a_small_file_that_unpacks_to_much_is_read_in_bounds(llamafactory_python: Path, tmp_path: Path) -> None:
    """One huge cell is refused by its size, and a large one that stands in every row is held a few times only."""
    code = """
pq.write_table(pa.table({"text": ["x" * (300 << 20)]}), "cell.parquet", compression="zstd", use_dictionary=False)
pq.write_table(pa.table({"text": ["x" * (90 << 20)]}), "wide.parquet", compression="zstd", use_dictionary=False)
same = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["y" * (2 << 20)]))
pq.write_table(pa.table({"text": same}), "same.parquet", compression="zstd")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in read(source_of("same.parquet")))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
size = Path("same.parquet").stat().st_size
print(json.dumps([found(Path("cell.parquet")), found(Path("wide.parquet")), count, grown, size]))
"""
    cell, wide, count, grown, size = child(llamafactory_python, code, tmp_path)
    assert "cell.parquet: column 'text' unpacks from" in cell
    assert "wide.parquet:row 1: a row of more than 64 MB" in wide
    assert count == 1000 and size < 1 << 20
    assert grown < 500 << 10, "kilobytes"
