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
    """Put a package together; what a package in the same folder had goes, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _former(folder) - {path.name for path in overlay.files}:
        (folder / name).unlink(missing_ok=True)
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


def _former(folder: Path) -> set[str]:
    """Names of the files of the package that is there, if one is."""
    try:
        return {Path(name).name for name in _manifest(folder)[1]}
    except ValueError:
        return set()


def _manifest(folder: Path) -> tuple[str, dict[str, str]]:
    """Board, and digests of the files."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} is no package: it has no {MANIFEST}")
    try:
        manifest = json.loads(path.read_text())
        return str(manifest["board"]), {str(n): str(d) for n, d in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} does not tell a board and its files") from None


def read_package(folder: Path) -> Package:
    """A package, every file of it checked.

    Raises
    ------
    ValueError
        If a file is missing or another one than was packed; the message names it.
    """
    board, digests = _manifest(folder)
    for name, digest in digests.items():
        path = folder / Path(name).name
        if not path.is_file():
            raise ValueError(f"{folder} has no {name}")
        if _sha256(path) != digest:
            raise ValueError(f"{name} is corrupt: its SHA-256 is another one than was packed")
    overlay = find_overlay(folder, board)
    for name in (PROGRAM, CASES, RUNTIME, *(path.name for path in overlay.files)):
        if name not in digests:
            raise ValueError(f"{folder / MANIFEST} does not tell the SHA-256 of {name}")
    return Package(folder, board, overlay, digests)


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
