"""Random components and arguments, for FUZZ_SECONDS (`make fuzz`: longer): nothing may hurt the process.

A failure names its seed and shows the input. FUZZ_SEED repeats a run; without it every run is another one.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("FUZZ_SEED") or random.randrange(2**32))


@pytest.mark.parametrize("target", ["components", "arguments"])
def test_nothing_that_is_thrown_at_the_engine_hurts_it(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        sys.executable,
        str(Path(__file__).parent / "fuzz.py"),
        target,
        str(SECONDS / 2),
        str(SEED),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS + 120)
    if done.returncode != 0:
        tried = (tmp_path / "input").read_bytes()
        kept = Path(f"fuzz-{target}-{SEED}.input")
        kept.write_bytes(tried)
        pytest.fail(
            f"seed {SEED}, status {done.returncode}; the input is in {kept}:\n{tried[:2000]!r}\n{done.stderr[-4000:]}"
        )
    with capsys.disabled():
        if SECONDS > 5:
            sys.stdout.write(f"\n{target}, seed {SEED}: {done.stdout}")
