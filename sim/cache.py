"""The cache: whatever is slow to build is built once, and found again by its content.

An entry is a folder ``<kind>/<content>-<tools>``, both hashes. Beside its files it has a manifest
with the size and the SHA-256 of each, so that a damaged entry is seen, named and built again.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from transept.sim import tools
from transept.sim.tools import BuildError, Tool

__all__ = ["Entry", "Recipe", "cache_dir", "content_hash", "entries", "prune"]

MANIFEST = "manifest.json"
SCRATCH, LOCK = ".scratch", ".lock"
#: Digits of the hashes of contents and of tools in the name of an entry.
DIGITS, TOOLS_DIGITS = 24, 8
#: Names of entries, by which they are told from files of others: the cache may be any folder.
_HASH = rf"[0-9a-f]{{{DIGITS}}}"
_ENTRY = re.compile(rf"{_HASH}-[0-9a-f]{{{TOOLS_DIGITS}}}({re.escape(SCRATCH)})?")
#: The same for folders of single files: costs by machine; kernels by card and versions.
_FILES = {
    "costs": re.compile(rf"{_HASH}\.json"),
    "kernels": re.compile(r".+-\d[\w.+]*-\d[\w.+]*\.json"),
}

_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """Folder of everything built: $TRANSEPT_CACHE, else ``.cache`` of a checkout, else ~/.cache."""
    if told := os.environ.get("TRANSEPT_CACHE"):
        return Path(told).expanduser().resolve()
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").exists():
        return checkout / ".cache"
    return Path.home() / ".cache" / "transept"


def content_hash(*parts: str | bytes | Mapping[str, object]) -> str:
    """The first 24 hexadecimal digits of the SHA-256 of all parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        text = json.dumps(part, sort_keys=True) if isinstance(part, Mapping) else part
        raw = text.encode() if isinstance(text, str) else text
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()[:DIGITS]


@dataclass(frozen=True)
class Recipe:
    """How one entry is found and made.

    kind: a folder of the cache; label: what people call the entry; content: ``content_hash`` of all
    that decides what is built, except for the tools; tools: what building needs; versions: of them.
    """

    kind: str
    label: str
    content: str
    tools: tuple[Tool, ...]
    versions: Callable[[], str]

    def find(self) -> Path | None:
        """The entry's folder, if it was built with these tools and is whole.

        Where tools are missing, whatever they once built from the same content is as good.
        """
        if not tools.missing(self.tools):
            folder = self._folder()
            return folder if _usable(folder) else None
        found = (cache_dir() / self.kind).glob(f"{self.content}-{'?' * TOOLS_DIGITS}")
        newest_first = sorted(found, key=_last_use, reverse=True)
        return next((folder for folder in newest_first if _usable(folder)), None)

    def make(self, fill: Callable[[Path], None]) -> Path:
        """The entry's folder; if there is none, ``fill`` makes its files, in one process only.

        It appears complete or not at all, also when the maker is killed.

        Raises
        ------
        ToolMissing
            If there is no entry and tools are missing; the message names all of them.
        BuildError
            If the cache cannot be written.
        """
        if found := self.find():
            return found
        tools.require(self.tools)
        folder = self._folder()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BuildError(f"the cache cannot be written, see TRANSEPT_CACHE: {error}") from None
        with _locked(folder):
            if not _usable(folder):  # nobody else made it while this process waited
                self._fill(folder, fill)
        return folder

    def _folder(self) -> Path:
        by = content_hash(self.versions())[:TOOLS_DIGITS]
        return cache_dir() / self.kind / f"{self.content}-{by}"

    def _fill(self, folder: Path, fill: Callable[[Path], None]) -> None:
        scratch = folder.with_name(folder.name + SCRATCH)
        shutil.rmtree(scratch, ignore_errors=True)  # of a maker that was killed
        scratch.mkdir()
        try:
            fill(scratch)
            _seal(scratch, self.label)
            shutil.rmtree(folder, ignore_errors=True)  # damaged
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


# --- manifests -----------------------------------------------------------------------------------


def _facts(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _seal(folder: Path, label: str) -> None:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {path.relative_to(folder).as_posix(): _facts(path) for path in paths}
    (folder / MANIFEST).write_text(json.dumps({"label": label, "files": files}, indent=2) + "\n")


def _damage(folder: Path) -> str:
    """What is wrong with an entry; empty if it is whole."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        for name, facts in files.items():
            found = _facts(folder / name)
            if found["bytes"] != facts["bytes"]:
                return f"{name} has {found['bytes']:,} bytes, not {facts['bytes']:,}"
            if found != facts:
                return f"{name} has other contents than were built"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{MANIFEST}: {error}"
    return ""


def _usable(folder: Path) -> bool:
    """Whether the entry is there and whole."""
    if not folder.is_dir():
        return False
    if damage := _damage(folder):
        _warn(folder, damage)
        return False
    with contextlib.suppress(OSError):  # a cache that cannot be written serves as well
        os.utime(folder / MANIFEST)
    return True


@functools.cache
def _warn(folder: Path, damage: str) -> None:
    """Name a damaged entry, once."""
    _log.warning("the cached build %s is damaged (%s) and not used", folder, damage)


# --- what is there -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A folder or file in the cache, with the time of its last use in seconds since the epoch."""

    path: Path
    label: str
    nbytes: int
    last_use: float

    @property
    def kind(self) -> str:
        """The folder of the cache that it is in."""
        return self.path.parent.name

    @property
    def unfinished(self) -> bool:
        """Whether a maker has not finished it: it is at work, or was killed."""
        return self.path.suffix == SCRATCH


def _last_use(path: Path) -> float:
    manifest = path / MANIFEST
    return (manifest if manifest.exists() else path).stat().st_mtime


def _label(path: Path) -> str:
    try:
        return str(json.loads((path / MANIFEST).read_text())["label"])
    except (OSError, ValueError, LookupError, TypeError):
        return path.name


def _size(path: Path) -> int:
    """Bytes of a file or of all files of a folder, in which a maker may be at work."""
    total = path.stat().st_size if path.is_file() else 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(folder, name).stat().st_size
    return total


def _is_ours(path: Path) -> bool:
    """Whether a path has the name of an entry, or of its lock."""
    names = _FILES.get(path.parent.name, _ENTRY)
    return names.fullmatch(path.name.removesuffix(LOCK)) is not None


def entries() -> list[Entry]:
    """Everything in the cache, by kind and label."""
    found = []
    for path in cache_dir().glob("*/*"):
        if path.suffix != LOCK and _is_ours(path):
            with contextlib.suppress(FileNotFoundError):  # finished or pruned meanwhile
                found.append(Entry(path, _label(path), _size(path), _last_use(path)))
    return sorted(found, key=lambda entry: (entry.kind, entry.label, entry.last_use))


def prune(unused_s: float) -> list[Entry]:
    """Remove what was not used for so many seconds, and what killed makers left; returns it.

    What a process is building stays.
    """
    removed = []
    for entry in entries():
        if entry.unfinished or time.time() - entry.last_use >= unused_s:
            with contextlib.suppress(BlockingIOError), _locked(entry.path, wait=False):
                _remove(entry.path)
                removed.append(entry)
    for lock in cache_dir().glob(f"*/*{LOCK}"):
        if _is_ours(lock) and not lock.with_suffix("").exists():
            with contextlib.suppress(BlockingIOError), _locked(lock.with_suffix(""), wait=False):
                lock.unlink()
    return removed


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- locks ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of an entry.

    Raises
    ------
    BlockingIOError
        If another process holds it, unless this one waits.
    """
    lock = path.with_name(path.name.removesuffix(SCRATCH) + LOCK)
    while True:
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # whoever held it before may have removed the file
            if lock.exists() and os.path.samestat(lock.stat(), os.fstat(file.fileno())):
                yield
                return
