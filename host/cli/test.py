"""``transept test``."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from transept.host.cli.options import SeedOption

__all__ = ["test"]

TESTS = Path(__file__).resolve().parents[2] / "tests"


def test(
    block: Annotated[str, typer.Argument(help="a folder of tests or part of a file's name")],
    seed: SeedOption = 1,
    waves: Annotated[bool, typer.Option("--waves", help="keep waveforms")] = False,
) -> None:
    """Run the tests of one block with a seed."""
    files = find_tests(block)
    if importlib.util.find_spec("pytest") is None:
        raise ValueError("pytest missing; run: pip install 'transept[dev]'")
    environment = os.environ | {"TRANSEPT_SEED": str(seed), "TRANSEPT_WAVES": str(int(waves))}
    command = [sys.executable, "-m", "pytest", "--rootdir", str(TESTS.parent), *map(str, files)]
    raise typer.Exit(subprocess.run(command, env=environment, cwd=TESTS).returncode)


def find_tests(block: str) -> list[Path]:
    """The tests in the folder with this name, or those whose names hold it.

    Raises
    ------
    ValueError
        If there is none, the name could lead elsewhere, or this is no checkout.
    """
    if not TESTS.is_dir():
        raise ValueError("the tests are no part of the package; run this in a checkout of Transept")
    if not re.fullmatch(r"\w+(/\w+)*(\.py)?", block):
        raise ValueError(f"{block!r} is no name of a block, such as softmax or rtl/memory")
    wanted = _name(Path(block))
    tests = {_name(path.relative_to(TESTS)): path for path in sorted(TESTS.rglob("test_*.py"))}
    inside = [path for name, path in tests.items() if name.startswith(f"{wanted}/")]
    found = inside or [path for name, path in tests.items() if wanted in name]
    if not found:
        raise ValueError(f"no test {block!r} under {TESTS.name}/")
    return found


def _name(path: Path) -> str:
    """rtl/memory/test_windows.py is rtl/memory/windows."""
    return path.with_name(path.stem.removeprefix("test_")).as_posix()
