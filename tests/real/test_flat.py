"""The memory that preparing data takes does not grow with their rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from recipes import load
from recipes.typed import write_typed
from runner.training.prepare import specification
from tests.real.conftest import inside

pytestmark = [pytest.mark.real, pytest.mark.cold, pytest.mark.slow]
FEW, MANY = 5_000, 15_000  # at 4,096 as many rows wait for their turn as ever do
ALLOWED = 12 << 10  # KiB; the tokens of MANY take 17 MiB more on the disk

PREPARE = """
import sys
from pathlib import Path
from runner.data.prepare import main
assert main(Path(sys.argv[1])) == 0
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_three_times_the_rows_take_no_more_memory(llamafactory_python: Path, tiny_model: Path, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        directory = tmp_path / str(count)
        directory.mkdir()
        rows = directory / "rows.jsonl"
        rows.write_text((json.dumps({"instruction": "Say it.", "output": "word " * 200}) + "\n") * count)
        given = [f"data.train=[{{path: {rows}}}]", "data.validation={fraction: 0.1}", "data.max_length=1024"]
        spec = specification(load("quickstart", given).recipe, str(tiny_model), directory)
        write_typed(directory / "spec.json", spec)
        argument = str(directory / "spec.json")
        return int(
            inside(llamafactory_python, PREPARE, argument, cwd=tmp_path, env={"RECIPE_WORKERS": "1"}).split()[-1]
        )

    few, many = peak(FEW), peak(MANY)
    assert many - few < ALLOWED, (few, many)
