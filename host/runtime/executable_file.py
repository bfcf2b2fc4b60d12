"""Executables in the manifest of a program file.

Tensors and counters follow from graph, shape and what is spilled: they are not in the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from transept.golden import isa
from transept.golden.isa import Window
from transept.host.compiler.compile import tally_numbers
from transept.host.compiler.cut import Cut, Shape
from transept.host.compiler.executable import Executable
from transept.host.compiler.layout import Layouts
from transept.host.compiler.link import Patch
from transept.host.compiler.tensors import Tensor, tensors, window_bytes
from transept.host.runtime.arrays import ArrayReader, ArrayWriter
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.manifest import Node
from transept.host.runtime.region import Region

__all__ = ["read_executable", "write_executable"]

MOST_SEQUENCES, MOST_ROWS, MOST_NAMES = 1 << 16, 1 << 24, 1 << 16
#: Bytes of one DRAM window.
LARGEST_WINDOW = 1 << 29
MOST_CYCLES = 1 << 53

_PATCH_FIELDS = ("instruction", "operand", "dimension", "sequence", "scale", "offset")


def write_executable(executable: Executable, arrays: ArrayWriter, place: str) -> dict[str, Any]:
    """An executable; its arrays get names that begin with ``place``."""
    shape, cut = executable.shape, executable.cut
    labels = list(dict.fromkeys(executable.labels))
    operands = list(dict.fromkeys(patch.operand for patch in executable.patches))
    dims = list(shape.lengths)
    patches = [
        (p.instruction, operands.index(p.operand), dims.index(p.dim), p.sequence, p.scale, p.offset)
        for p in executable.patches
    ]
    numbers = {label: number for number, label in enumerate(labels)}
    return {
        "batch": shape.batch,
        "lengths": dict(shape.lengths),
        "cut": {
            "group": cut.group,
            "rows": list(cut.rows),
            "queries": cut.queries,
            "heads": cut.heads,
            "scores": cut.scores,
            "spilled": sorted(cut.spilled),
            "resident": cut.resident,
            "fill": cut.fill,
        },
        "instructions": arrays.add(
            f"{place}.instructions", np.frombuffer(executable.instructions, np.uint8)
        ),
        "patches": arrays.add(
            f"{place}.patches", np.array(patches, np.int64).reshape(-1, len(_PATCH_FIELDS))
        ),
        "operands": operands,
        "labels": arrays.add(
            f"{place}.labels", np.array([numbers[label] for label in executable.labels], np.int64)
        ),
        "label_names": labels,
        "predicted_cycles": executable.predicted_cycles,
    }


def read_executable(node: Node, arrays: ArrayReader, region: Region) -> Executable:
    """The inverse of ``write_executable``, for a region.

    Raises
    ------
    ProgramError
        If a field is not what it must be, or the parts do not fit each other or the region.
    """
    parts = node.fields(
        *("batch", "lengths", "cut", "instructions", "patches", "operands"),
        *("labels", "label_names", "predicted_cycles"),
    )
    lengths = {
        name: length.integer(1, MOST_ROWS) for name, length in parts["lengths"].named(MOST_NAMES)
    }
    shape = region.shape(parts["batch"].integer(1, MOST_SEQUENCES), lengths)
    cut = _read_cut(parts["cut"], region)
    instructions = _read_instructions(parts["instructions"], arrays)
    count = len(instructions) // isa.INSTRUCTION_BYTES
    return Executable(
        shape=shape,
        cut=cut,
        instructions=instructions,
        patches=tuple(_read_patches(parts, arrays, shape, instructions)),
        labels=tuple(_read_labels(parts, arrays, count)),
        tallies=tally_numbers(region.graph),
        tensors=_tensors(node, region, shape, cut),
        predicted_cycles=parts["predicted_cycles"].integer(0, MOST_CYCLES),
    )


def _read_cut(node: Node, region: Region) -> Cut:
    parts = node.fields(
        "group", "rows", "queries", "heads", "scores", "spilled", "resident", "fill"
    )
    spilled = [entry.choice(region.graph.values) for entry in parts["spilled"].items(MOST_NAMES)]
    return Cut(
        group=parts["group"].integer(1, MOST_SEQUENCES),
        rows=tuple(entry.integer(0, MOST_ROWS) for entry in parts["rows"].items(MOST_NAMES)),
        queries=parts["queries"].integer(0, MOST_ROWS),
        heads=parts["heads"].integer(0, MOST_NAMES),
        scores=parts["scores"].integer(0, MOST_NAMES),
        spilled=frozenset(spilled),
        resident=parts["resident"].flag(),
        fill=parts["fill"].number(0, 1),
        together=1,  # which rows share their weights is in the instructions
    )


def _read_instructions(node: Node, arrays: ArrayReader) -> bytes:
    data = arrays.take(node, np.uint8)
    if data.ndim != 1 or not data.size or data.size % isa.INSTRUCTION_BYTES:
        raise ProgramError(
            f"{node.where} has {data.size} bytes, must be a multiple of {isa.INSTRUCTION_BYTES}"
        )
    if data.size > LARGEST_WINDOW:
        raise ProgramError(f"{node.where} has {data.size} bytes, at most {LARGEST_WINDOW} fit")
    return data.tobytes()


def _read_labels(parts: dict[str, Node], arrays: ArrayReader, count: int) -> Iterable[str]:
    names = [entry.text() for entry in parts["label_names"].items(MOST_NAMES, 1)]
    numbers = arrays.take(parts["labels"], np.int64)
    if numbers.shape != (count,):
        raise ProgramError(
            f"{parts['labels'].where} has shape {list(numbers.shape)} for {count} instructions"
        )
    _check_range(parts["labels"], "label", numbers, len(names))
    return (names[number] for number in numbers)


def _read_patches(
    parts: dict[str, Node], arrays: ArrayReader, shape: Shape, instructions: bytes
) -> list[Patch]:
    node = parts["patches"]
    operands = [entry.text() for entry in parts["operands"].items(MOST_NAMES)]
    found = arrays.take(node, np.int64)
    if found.ndim != 2 or found.shape[1] != len(_PATCH_FIELDS):
        raise ProgramError(
            f"{node.where} has shape {list(found.shape)}, must be [n, {len(_PATCH_FIELDS)}]"
        )
    dims = list(shape.lengths)
    count = len(instructions) // isa.INSTRUCTION_BYTES
    limits = {
        "instruction": count,
        "operand": len(operands),
        "dimension": len(dims),
        "sequence": shape.batch,
    }
    for (what, limit), numbers in zip(limits.items(), found.T, strict=False):
        _check_range(node, what, numbers, limit)
    for what, numbers in zip(_PATCH_FIELDS[len(limits) :], found.T[len(limits) :], strict=True):
        _check_range(node, what, numbers, MOST_ROWS, -MOST_ROWS)
    patches = [
        Patch(instruction, operands[operand], dims[dim], sequence, scale, offset)
        for instruction, operand, dim, sequence, scale, offset in found.tolist()
    ]
    for patch in patches:
        opcode = instructions[patch.instruction * isa.INSTRUCTION_BYTES]
        if opcode not in set(isa.Opcode):
            raise ProgramError(f"{node.where}: instruction {patch.instruction} has no known opcode")
        known = isa.FORMATS[isa.Opcode(opcode)].fields
        if patch.operand not in {operand.name for operand in known}:
            raise ProgramError(
                f"{node.where}: instruction {patch.instruction} has no operand {patch.operand}"
            )
    return patches


def _check_range(node: Node, what: str, numbers: np.ndarray, limit: int, least: int = 0) -> None:
    wrong = (numbers < least) | (numbers >= limit)
    if wrong.any():
        raise ProgramError(
            f"{node.where} has {what} {numbers[wrong][0]}, outside {least} to {limit - 1}"
        )


def _tensors(node: Node, region: Region, shape: Shape, cut: Cut) -> dict[str, Tensor]:
    found = tensors(region.graph, Layouts(region.graph, region.config), shape, cut.spilled)
    for window in (Window.IO, Window.SCRATCH):
        size = window_bytes(found, window)
        if size > LARGEST_WINDOW:
            raise ProgramError(
                f"{node.where} of {shape} rows needs {size} bytes of window {window.name}, "
                f"at most {LARGEST_WINDOW} are allowed"
            )
    return found
