"""Program files: regions with their graphs, constants and instructions; nothing else is needed.

::

    transept-program-2\n   19 bytes
    SHA-256                32 bytes, of everything behind them
    length                 8 bytes, little-endian, of the manifest
    manifest               JSON
    arrays                 a safetensors container

Weight images follow from the graphs and are not in the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transept.golden import isa
from transept.golden.config import CONTRACT_VERSION, Config
from transept.host.files import whole_file
from transept.host.runtime.arrays import ArrayReader, ArrayWriter
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.executable_file import read_executable, write_executable
from transept.host.runtime.explanation import read_explanation
from transept.host.runtime.graph_file import read_config, read_graph, write_config, write_graph
from transept.host.runtime.manifest import Node, parse
from transept.host.runtime.region import Region
from transept.host.runtime.verify import check_executable

__all__ = ["FORMAT", "Contents", "check", "load", "save"]

FORMAT = "transept-program-2"
_MAGIC = f"{FORMAT}\n".encode()
_DIGEST, _LENGTH = hashlib.sha256().digest_size, 8
#: Bytes of a file and of its manifest, regions of a program, and executables of a region.
LARGEST_FILE, LARGEST_MANIFEST, MOST_REGIONS, MOST_SHAPES = 1 << 32, 1 << 24, 1 << 12, 1 << 12


class Contents(NamedTuple):
    """What a program file holds; explanation: that of ``Program.explain``, if it has one."""

    config: Config
    regions: list[Region]
    explanation: dict[str, Any] | None


def save(
    path: str | Path,
    config: Config,
    regions: Sequence[Region],
    explanation: dict[str, Any] | None = None,
) -> None:
    """Write regions with all their executables to one file, as a whole or not at all.

    A symbolic link stays one, to the new contents.

    Raises
    ------
    ProgramError
        If the path is no regular file or cannot be written, or ``load`` would refuse the contents.
    """
    data = _encode(config, regions, explanation)
    _decode(data, str(path))
    place = Path(path)
    try:
        if place.exists() and not place.is_file():
            raise ProgramError(f"{path} is no regular file")
        with whole_file(place) as part:
            part.write_bytes(data)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ProgramError(f"{path} cannot be written: {reason}") from None


def load(path: str | Path) -> Contents:
    """The contents of a file, every part of it checked, instructions included.

    Raises
    ------
    ProgramError
        If the file is missing or corrupt, is of another format, contract or configuration, or holds
        what a device may not run; the message names field, value and limit.
    """
    return _decode(_read(Path(path)), str(path))


def check(path: str | Path) -> list[str]:
    """What is in a file, a line each; nothing is left that ``load`` would refuse.

    Raises
    ------
    ProgramError
        As ``load``.
    """
    data = _read(Path(path))
    config, regions, _ = _decode(data, str(path))
    digest = data[len(_MAGIC) : len(_MAGIC) + _DIGEST].hex()
    lines = [
        f"format {FORMAT}, {len(data):,} bytes, SHA-256 {digest}",
        f"contract {CONTRACT_VERSION}, configuration {config.name} ({config.digest:08x})",
    ]
    for region in regions:
        graph = region.graph
        lines.append(
            f"region {region.name}: {len(graph.ops)} operators, {region.weights.size:,} bytes of "
            f"weights, {', '.join(graph.inputs)} to {', '.join(graph.outputs)}"
        )
        for shape, executable in region.executables.items():
            count = len(executable.instructions) // isa.INSTRUCTION_BYTES
            lines.append(
                f"region {region.name} of {shape} rows: {count:,} instructions verified, "
                f"{executable.predicted_cycles:,} cycles predicted"
            )
    return lines


# --- bytes
def _encode(config: Config, regions: Sequence[Region], explanation: dict[str, Any] | None) -> bytes:
    arrays = ArrayWriter()
    manifest = {
        "contract": CONTRACT_VERSION,
        "config": write_config(config),
        "regions": [_write_region(region, arrays) for region in regions],
        "explanation": explanation,
    }
    text = json.dumps(manifest, separators=(",", ":"), default=int).encode()
    body = len(text).to_bytes(_LENGTH, "little") + text + arrays.encoded()
    return _MAGIC + hashlib.sha256(body).digest() + body


def _read(path: Path) -> bytes:
    try:
        if not path.exists():
            raise ProgramError(f"no program file {path}")
        if not path.is_file():
            raise ProgramError(f"{path} is no regular file")
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise ProgramError(f"{path} has {size} bytes, at most {LARGEST_FILE} are read")
        return path.read_bytes()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ProgramError(f"{path} cannot be read: {reason}") from None


def _decode(data: bytes, path: str) -> Contents:
    if not data.startswith(_MAGIC):
        raise ProgramError(f"{path} is no {FORMAT} file")
    start = len(_MAGIC) + _DIGEST
    digest, body = data[len(_MAGIC) : start], memoryview(data)[start:]
    if hashlib.sha256(body).digest() != digest or len(body) < _LENGTH:
        raise ProgramError(f"{path} is corrupt: its SHA-256 is another one")
    length = int.from_bytes(body[:_LENGTH], "little")
    if length > LARGEST_MANIFEST:
        raise ProgramError(
            f"{path} has a manifest of {length} bytes, at most {LARGEST_MANIFEST} are read"
        )
    if length > len(body) - _LENGTH:
        raise ProgramError(f"{path} has a manifest of {length} bytes, more than the file")
    end = _LENGTH + length
    try:
        return _read_contents(
            parse(bytes(body[_LENGTH:end]), "manifest"), ArrayReader(bytes(body[end:]), "manifest")
        )
    except ProgramError as error:
        raise ProgramError(f"{path}: {error}") from None


# --- contents
def _read_contents(node: Node, arrays: ArrayReader) -> Contents:
    contract = node["contract"]
    if contract.integer(0, 1 << 16) != CONTRACT_VERSION:
        raise contract.refuse(f"{CONTRACT_VERSION}, the contract version of this program")
    parts = node.fields("contract", "config", "regions", "explanation")
    config = read_config(parts["config"])
    entries = parts["regions"].items(MOST_REGIONS, 1)
    regions = [_read_region(entry, arrays, config) for entry in entries]
    names = [region.name for region in regions]
    if len(set(names)) < len(names):
        raise ProgramError(f"{parts['regions'].where} names a region twice")
    explanation = read_explanation(parts["explanation"])
    arrays.check_used()
    return Contents(config, regions, explanation)


def _write_region(region: Region, arrays: ArrayWriter) -> dict[str, Any]:
    return {
        "name": region.name,
        "graph": write_graph(region.graph, arrays, region.name),
        "digest": _digest(region),
        "executables": [
            write_executable(executable, arrays, f"{region.name}.{number}")
            for number, executable in enumerate(region.executables.values())
        ],
    }


def _read_region(node: Node, arrays: ArrayReader, config: Config) -> Region:
    parts = node.fields("name", "graph", "digest", "executables")
    region = Region(parts["name"].text(), read_graph(parts["graph"], arrays), config)
    try:
        found = _digest(region)
    except ValueError as error:
        raise ProgramError(f"{node.where}: {error}") from None
    if parts["digest"].matching("[0-9a-f]{64}") != found:
        raise parts["digest"].refuse(f"{found}, the SHA-256 of its graph and weights")
    for entry in parts["executables"].items(MOST_SHAPES):
        executable = read_executable(entry, arrays, region)
        if executable.shape in region.executables:
            raise ProgramError(f"{entry.where} is a second one of {executable.shape} rows")
        check_executable(region, executable)
        region.add(executable)
    return region


def _digest(region: Region) -> str:
    """What its executables were compiled from: the graph with its constants, and the weight image,
    which another version of the compiler may lay out in another way."""
    arrays = ArrayWriter()
    graph = write_graph(region.graph, arrays, "")
    text = json.dumps([graph, arrays.digests()], sort_keys=True, default=int)
    return hashlib.sha256(text.encode() + region.weights.tobytes()).hexdigest()
