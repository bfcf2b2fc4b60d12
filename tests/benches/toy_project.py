"""A project in miniature, laid out as this one, for tests of the tool that plants faults."""

from __future__ import annotations

from pathlib import Path

from mutants.draw import Mutant
from mutants.mutations import mutations
from mutants.project import Project

__all__ = ["BUILD_SECONDS", "FILES", "mutant", "toy_project"]

#: What a simulation takes to build.
BUILD_SECONDS = 5
FILES = {
    "transept/__init__.py": "",
    "golden/__init__.py": "",
    "golden/config.py": """\
from typing import NamedTuple


class Config(NamedTuple):
    name: str
    width: int


def preset(name):
    return Config(name, {"tiny": 4, "pynq_z2": 16}[name])
""",
    "golden/count.py": """\
STEP = 1
LAST = (10, 20)[1]


def down(n):
    found = []
    while n > 0:
        found.append(n)
        n -= STEP
    return found


def clamp(n):
    if n > 100:
        raise ValueError(f"{n} exceeds 100")
    return max(n, 0)


def spare(n):
    return n + 7


def square(n):
    return n * n if n < 6 - 0 else n**2


def signal(n):
    return 9 if n > 3 else 0
""",
    "golden/limits.py": "MOST = (3, 5)[1]\n",
    "tests/golden/conftest.py": "from transept.golden.limits import MOST as MOST\n",
    "rtl/__init__.py": "",
    "rtl/core.py": """\
def mask(width):
    if width > 32:
        raise ValueError(f"{width} exceeds 32")
    return (1 << width % 64) - 1


def verilog(config):
    return f"assign y = x & {mask(config.width)};"


def spare(width):
    return width + 4
""",
    "sim/__init__.py": "",
    "sim/cache.py": """\
import os
from pathlib import Path
from typing import NamedTuple


class Recipe(NamedTuple):
    kind: str
    label: str
    content: str

    def make(self, fill):
        folder = Path(os.environ["TRANSEPT_CACHE"]) / self.kind / self.content
        if not folder.exists():
            folder.mkdir(parents=True)
            fill(folder)
        return folder
""",
    "sim/build.py": """\
import hashlib
import time
from pathlib import Path

from transept.rtl.core import verilog
from transept.sim.cache import Recipe


def accelerator_verilog(config):
    source = Path(__file__).parents[1] / "rtl" / "core.py"
    key = hashlib.sha256(source.read_bytes()).hexdigest()

    def fill(folder):
        (folder / "accelerator.v").write_text(verilog(config))

    recipe = Recipe("verilog", config.name, config.name + key)
    return (recipe.make(fill) / "accelerator.v").read_text()


def simulation(config):
    def fill(folder):
        time.sleep(5)
        (folder / "accelerator.v").write_text(text)

    text = accelerator_verilog(config)
    return Recipe("native", config.name, hashlib.sha256(text.encode()).hexdigest()).make(fill)
""",
    "tests/golden/test_count.py": """\
import os
import subprocess
import sys

import pytest

from transept.golden.count import clamp, down, signal


@pytest.mark.slow
def test_slow():
    raise AssertionError


def test_down():
    assert down(3) == [3, 2, 1]


@pytest.mark.parametrize(("n", "expected"), [(-3, 0), (3, 3)])
def test_clamp(n, expected):
    assert clamp(n) == expected


def test_square():
    code = "from transept.golden.count import square; raise SystemExit(square(3))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9


def test_signal():
    os.kill(os.getpid(), signal(3))


def test_wrong():
    assert down(3) == [1, 2, 3]
""",
    "tests/rtl/test_core.py": """\
from transept.golden.config import preset
from transept.sim.build import simulation


def test_simulation():
    text = (simulation(preset("tiny")) / "accelerator.v").read_text()
    assert text == "assign y = x & 15;"
""",
}


def toy_project(folder: Path) -> Project:
    """The project in a new folder, with an empty build cache."""
    for name, text in FILES.items():
        path = folder / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Project.of(folder / "toy", builder="transept.sim.cache", cache=folder / "cache")


def mutant(root: Path, file: str, after: str) -> Mutant:
    """The mutant whose line becomes ``after``."""
    faults = mutations((root / file).read_text())
    (fault,) = (fault for fault in faults if fault.after == after)
    return Mutant(file, fault)
