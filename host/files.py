"""Files that appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["check_writable", "whole_file"]

#: Where paths name devices and open files, which are written to and not replaced.
_SPECIAL = ("/dev", "/proc")


def _is_special(path: Path) -> bool:
    absolute = path.absolute()
    special = any(absolute.is_relative_to(folder) for folder in _SPECIAL)
    return special or (path.exists() and not path.is_file())


def check_writable(path: Path | None) -> None:
    """Look before hours of work whether their result can be written.

    Raises
    ------
    ValueError
        If the folder does not exist or nothing can be written there, or the path is a folder.
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{path} is a folder")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise ValueError(f"no folder {path.parent} for {path.name}")
    if not _is_special(path) and not os.access(folder, os.W_OK):
        raise ValueError(f"no permission to write {path.name} in {path.parent}")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place to write what becomes ``path`` once it is complete.

    If writing fails, for example on a full disk, what was there before stays. A symbolic link stays
    a link to the new contents; a device, a pipe or a terminal is written to directly.
    """
    if _is_special(path):
        yield path
        return
    final = path.resolve()
    part = final.with_name(f".{final.name}.{secrets.token_hex(8)}.part")
    part.touch(exist_ok=False)
    try:
        if final.exists():
            shutil.copymode(final, part)
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)  # not every writer asks the umask
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)
