"""Packages: everything that a board needs, and nothing that was changed since."""

import dataclasses
import io
import json
import subprocess
import sys
import zipfile

import pytest

from transept.bitstreams.boards import BOARDS
from transept.bitstreams.overlay import simulated_overlay
from transept.golden.config import TINY
from transept.host.deploy.package import read_package, runtime, write_package

BOARD = dataclasses.replace(BOARDS["pynq_z2"], config=TINY)


@pytest.fixture
def package(tmp_path):
    overlay = simulated_overlay(tmp_path / "overlay", BOARD, "")
    return write_package(tmp_path / "a" / "package", "pynq_z2", overlay, b"program", b"cases")


def test_a_package_has_everything(package):
    names = [path.name for path in package.files]
    build = package.overlay.bitfile.stem
    assert names[0] == "package.json"
    assert set(names[1:]) == {
        *(f"{build}{suffix}" for suffix in (".bit", ".hwh", ".json")),
        "program.tsp", "self_test.npz", "transept.zip",
    }  # fmt: skip
    assert {path.name for path in package.folder.iterdir()} == set(names)
    assert read_package(package.folder) == package
    assert (package.folder / "program.tsp").read_bytes() == b"program"
    text = (package.folder / "package.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2) + "\n"


def test_a_package_may_be_written_again_with_its_own_overlay(package):
    again = write_package(package.folder, "pynq_z2", package.overlay, b"program", b"cases")
    assert again == package


def test_an_older_overlay_goes(package, tmp_path):
    """Even if a file of it is gone already."""
    overlay = simulated_overlay(tmp_path / "other", BOARD, "module")
    package.overlay.bitfile.with_suffix(".hwh").unlink()
    again = write_package(package.folder, "pynq_z2", overlay, b"program", b"cases")
    assert again.overlay.bitfile.stem != package.overlay.bitfile.stem
    assert not package.overlay.bitfile.exists()


def test_nothing_else_goes(package, tmp_path):
    """Files of others stay; an overlay whose name is not ours goes as any other."""
    (package.folder / "transept_notes.txt").touch()
    overlay = simulated_overlay(tmp_path / "other", BOARD, "module")
    for path in overlay.files:
        path.rename(path.with_stem("mine"))
    mine = dataclasses.replace(overlay, bitfile=overlay.bitfile.with_stem("mine"))
    write_package(package.folder, "pynq_z2", mine, b"program", b"cases")
    last = simulated_overlay(tmp_path / "last", BOARD, "another module")
    write_package(package.folder, "pynq_z2", last, b"program", b"cases")
    assert not (package.folder / "mine.bit").exists()
    assert (package.folder / "transept_notes.txt").exists()


@pytest.mark.parametrize("name", ["program.tsp", "self_test.npz", "transept.zip", ".hwh", ".bit"])
def test_what_was_changed_is_named(package, name):
    (path,) = (p for p in package.files if p.name.endswith(name))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{path.name} is corrupt: its SHA-256 is another one"):
        read_package(package.folder)
    path.unlink()
    with pytest.raises(ValueError, match=f"has no {path.name}$"):
        read_package(package.folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({"board": "a", "files": 3})])
def test_what_is_no_package_is_told(tmp_path, text):
    with pytest.raises(ValueError, match=f"^{tmp_path} is no package: it has no package.json$"):
        read_package(tmp_path)
    (tmp_path / "package.json").write_text(text)
    with pytest.raises(ValueError, match=r"package\.json does not tell a board and its files$"):
        read_package(tmp_path)


@pytest.mark.parametrize("name", ["program.tsp", "self_test.npz", "transept.zip", ".hwh", ".bit"])
def test_what_has_no_digest_is_named(package, name):
    path = package.folder / "package.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {n: d for n, d in manifest["files"].items() if not n.endswith(name)}
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=rf"package\.json does not tell the SHA-256 of \S*{name}$"):
        read_package(package.folder)


def test_the_runtime_is_the_same_every_time():
    data = runtime()
    assert data == runtime()
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    assert {"__main__.py", "transept/__init__.py", "transept/host/devices/pynq.py"} <= set(names)
    assert not any(name.startswith(("transept/rtl", "transept/sim")) for name in names)


NUMPY_ALONE = """
import importlib.abc, sys

class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {*sys.stdlib_module_names, "numpy", "transept"}:
            raise ModuleNotFoundError(f"no {name} on a board", name=name)

sys.meta_path.insert(0, Nothing())
sys.path.insert(0, sys.argv[1])
import transept
from transept.host.deploy import client
assert ".zip" in client.__file__, client.__file__
program = transept.load(sys.argv[2])
(region,) = program.regions
print(region.name, len(region.executables))
"""


def test_a_board_needs_numpy_alone_to_load_a_program(tmp_path):
    """The runtime from its file, with nothing else that could be imported."""
    from graphs import post_norm

    from transept.host.compiler.cut import Shape
    from transept.host.runtime.file import save
    from transept.host.runtime.region import Region

    region = Region("it", post_norm(1, 8, 2, [12]), TINY)
    region.executable(Shape(1, {"rows": 5}))
    save(tmp_path / "a.tsp", TINY, [region])
    (tmp_path / "transept.zip").write_bytes(runtime())
    done = subprocess.run(
        [sys.executable, "-I", "-c", NUMPY_ALONE, tmp_path / "transept.zip", tmp_path / "a.tsp"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.stdout == "it 1\n", done.stderr
