"""A compiled program: instructions, weights, and what a driver must know to run it. One file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transept.golden import isa
from transept.golden.config import CONTRACT_VERSION, Config, preset

__all__ = ["Launch", "ProgramError", "Tensor"]

FORMAT = "transept-program-1"


class ProgramError(ValueError):
    """A program file or a program cannot be used; the message says why."""


@dataclass(frozen=True)
class Tensor:
    """Rows of int8 or int16 elements in the IO window.

    Row m starts at ``offset + m * pitch`` bytes; ``width`` elements are real, the rest of the pitch
    is zero. ``scale``: real value of one step for each element of a row, empty if it has none.
    """

    offset: int
    rows: int
    width: int
    pitch: int
    bits: int
    scale: tuple[float, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in the IO window."""
        return self.rows * self.pitch


@dataclass(frozen=True)
class Launch:
    """One accelerator launch.

    instructions: the encoded program, END included. weights: the image of window WEIGHTS.
    labels: the layer of each instruction. macs: multiply-accumulates of the layers with that label.
    sequences: (instruction, sequence) pairs whose ``keys`` operand is the length of the sequence.
    """

    config: str
    digest: int
    contract: int
    instructions: bytes
    weights: np.ndarray  # uint8
    labels: tuple[str, ...]
    macs: dict[str, int]
    inputs: tuple[Tensor, ...]
    output: Tensor
    io_bytes: int
    scratch_bytes: int
    tokens: int = 0
    batch: int = 1
    sequences: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.contract != CONTRACT_VERSION:
            raise ProgramError(
                f"program has contract version {self.contract}, this is {CONTRACT_VERSION}"
            )

    def decoded(self) -> list[isa.Instruction]:
        """The instructions."""
        return isa.decode_program(self.instructions)

    def with_lengths(self, lengths: list[int]) -> bytes:
        """The instructions for these sequence lengths.

        Raises
        ------
        ProgramError
            If the number of sequences or a length does not fit the compiled shape.
        """
        if len(lengths) != self.batch:
            raise ProgramError(f"program takes {self.batch} sequences, got {len(lengths)}")
        for length in lengths:
            if not 1 <= length <= self.tokens:
                raise ProgramError(f"sequence length {length} is outside 1 to {self.tokens}")
        image = bytearray(self.instructions)
        for index, sequence in self.sequences:
            place = slice(index * isa.INSTRUCTION_BYTES, (index + 1) * isa.INSTRUCTION_BYTES)
            instruction = isa.decode(bytes(image[place]))
            operands = {**instruction.operands, "keys": lengths[sequence] - 1}
            image[place] = isa.encode(dataclasses.replace(instruction, operands=operands))
        return bytes(image)

    def check(self, config: Config) -> None:
        """Refuse another hardware.

        Raises
        ------
        ProgramError
            If the program was compiled for a configuration with another digest.
        """
        if config.digest != self.digest:
            raise ProgramError(
                f"program was compiled for {self.config} ({self.digest:08x}), "
                f"this accelerator is {config.name} ({config.digest:08x})"
            )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with a JSON manifest in its metadata."""
        from safetensors.numpy import save_file

        arrays = {
            "instructions": np.frombuffer(self.instructions, np.uint8),
            "weights": self.weights,
        }
        fields = dataclasses.asdict(self)
        manifest = {name: value for name, value in fields.items() if name not in arrays}
        save_file(arrays, path, {"format": FORMAT, "manifest": json.dumps(manifest)})

    @classmethod
    def load(cls, path: str | Path) -> Launch:
        """Read a program file.

        Raises
        ------
        ProgramError
            If the file is missing, corrupt, of another format or contract version.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise ProgramError(f"no program file {path}")
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ProgramError(f"{path} is no {FORMAT} file")
                manifest = json.loads(metadata["manifest"])
                instructions = file.get_tensor("instructions").tobytes()
                weights = file.get_tensor("weights")
        except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
            raise ProgramError(f"{path} is corrupt: {error}") from None
        return cls._from_manifest(path, manifest, instructions, weights)

    @classmethod
    def _from_manifest(
        cls, path: object, manifest: dict, instructions: bytes, weights: np.ndarray
    ) -> Launch:
        try:
            manifest["inputs"] = tuple(_tensor(entry) for entry in manifest["inputs"])
            manifest["output"] = _tensor(manifest["output"])
            manifest["labels"] = tuple(manifest["labels"])
            manifest["sequences"] = tuple(tuple(pair) for pair in manifest["sequences"])
            program = cls(instructions=instructions, weights=weights, **manifest)
            isa.decode_program(program.instructions)
        except (KeyError, TypeError) as error:
            raise ProgramError(f"{path} is corrupt: {error}") from None
        except ProgramError:
            raise
        except ValueError as error:
            raise ProgramError(f"{path} is corrupt: {error}") from None
        program.check(preset(program.config))
        return program


def _tensor(entry: dict) -> Tensor:
    return Tensor(**{**entry, "scale": tuple(entry["scale"])})
