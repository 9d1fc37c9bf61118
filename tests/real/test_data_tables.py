"""Parquet and Arrow files, whole, damaged and hostile, beside pyarrow's own reading of them."""

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
import datasets, pyarrow as pa, pyarrow.parquet as pq
from runner.data.spec import source_of
from runner.data.read import BadData, read
datasets.disable_progress_bars()

def found(path, split="train"):
    try:
        rows = list(read(source_of(path, split=split)))
    except BadData as error:
        return str(error)
    for file in {row.file for row in rows}:
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
