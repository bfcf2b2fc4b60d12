"""Everything that a board needs, in one folder: overlay, program, self-test, and the runtime.

::

    package.json       board, and SHA-256 of every other file
    transept_*.bit     with .hwh and .json: the overlay
    program.tsp        the compiled model
    self_test.npz      what the board must compute
    transept.zip       the runtime, for ``python transept.zip FOLDER``
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import transept
from transept.bitstreams.overlay import Overlay, find_overlay

__all__ = ["CASES", "PROGRAM", "RUNTIME", "Package", "read_package", "write_package"]

MANIFEST, PROGRAM, CASES, RUNTIME = "package.json", "program.tsp", "self_test.npz", "transept.zip"
#: Layers that run programs; the others compile and simulate.
_LAYERS = ("golden", "bitstreams", "host")
_MAIN = "from transept.host.deploy.client import main\n\nmain()\n"


@dataclass(frozen=True)
class Package:
    """A folder that was checked; digests: SHA-256 of its files by name."""

    folder: Path
    board: str
    overlay: Overlay
    digests: Mapping[str, str]

    @property
    def files(self) -> list[Path]:
        """All of them."""
        return [self.folder / name for name in (MANIFEST, *self.digests)]


def write_package(
    folder: Path, board: str, overlay: Overlay, program: bytes, cases: bytes
) -> Package:
    """Put a package together; overlays that the folder had go."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("transept_*.*"):
        if old.name not in {path.name for path in overlay.files}:
            old.unlink()
    for path in overlay.files:
        if path.parent.resolve() != folder.resolve():
            shutil.copy(path, folder)
    contents = {PROGRAM: program, CASES: cases, RUNTIME: runtime()}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    names = (*(path.name for path in overlay.files), *contents)
    digests = {name: _sha256(folder / name) for name in names}
    text = json.dumps({"board": board, "files": digests}, indent=2) + "\n"
    (folder / MANIFEST).write_text(text)
    return read_package(folder)


def read_package(folder: Path) -> Package:
    """A package, every file of it checked.

    Raises
    ------
    ValueError
        If a file is missing or another one than was packed; the message names it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        board, digests = str(manifest["board"]), dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{folder} is no package: it has no {MANIFEST}") from None
    for name, digest in digests.items():
        path = folder / Path(name).name
        if not path.is_file():
            raise ValueError(f"{folder} has no {name}")
        if _sha256(path) != digest:
            raise ValueError(f"{name} is corrupt: its SHA-256 is another one than was packed")
    return Package(folder, board, find_overlay(folder, board), digests)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def runtime() -> bytes:
    """The modules that run programs as a ``.zip`` that Python imports from and can start; the same
    bytes for the same modules."""
    root = Path(str(transept.__file__)).parent
    files = {f"transept/{path.name}": path for path in root.glob("*.py")}
    for layer in _LAYERS:
        spec = importlib.util.find_spec(f"transept.{layer}")
        for place in (spec and spec.submodule_search_locations) or ():
            for path in Path(place).rglob("*.py"):
                files[f"transept/{layer}/{path.relative_to(place).as_posix()}"] = path
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), _MAIN)
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name), files[name].read_bytes())
    return file.getvalue()
