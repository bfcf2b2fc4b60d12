"""A compiled program: instructions, weights, and what a driver must know to run it. One file."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transept.golden import isa
from transept.golden.config import CONTRACT_VERSION, Config

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

    config: the hardware that it was compiled for. instructions: the encoded program, END included.
    weights: the image of window WEIGHTS. labels: the layer of each instruction. macs:
    multiply-accumulates of the layers with that label. sequences: (instruction, sequence) pairs
    whose ``keys`` operand is the length of the sequence.
    """

    config: Config
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

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of all layers at full length."""
        return sum(self.macs.values())

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
        if config.digest != self.config.digest:
            raise ProgramError(
                f"program was compiled for {self.config.name} ({self.config.digest:08x}), "
                f"this accelerator is {config.name} ({config.digest:08x})"
            )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with a JSON manifest in its metadata.

        Raises
        ------
        ProgramError
            If the folder does not exist.
        """
        from safetensors.numpy import save_file

        if not Path(path).parent.is_dir():
            raise ProgramError(f"no folder {Path(path).parent} for {Path(path).name}")

        arrays = {
            "instructions": np.frombuffer(self.instructions, np.uint8),
            "weights": self.weights,
        }
        fields = dataclasses.asdict(self)
        manifest = {name: value for name, value in fields.items() if name not in arrays}
        manifest["digest"] = self.config.digest
        metadata = {"format": FORMAT, "manifest": json.dumps(manifest)}
        # renamed when it is complete: a full disk or an interrupt leaves no half program behind
        with tempfile.TemporaryDirectory(dir=Path(path).parent, prefix=".transept-") as folder:
            whole = Path(folder) / "program"
            save_file(arrays, whole, metadata)
            whole.replace(path)

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
            contract = manifest["contract"]
            if contract != CONTRACT_VERSION:
                raise ProgramError(
                    f"{path} has contract version {contract}, this is {CONTRACT_VERSION}"
                )
            manifest["config"] = _config(manifest["config"], manifest.pop("digest"))
            manifest["inputs"] = tuple(_tensor(entry) for entry in manifest["inputs"])
            manifest["output"] = _tensor(manifest["output"])
            manifest["labels"] = tuple(manifest["labels"])
            manifest["sequences"] = tuple(tuple(pair) for pair in manifest["sequences"])
            program = cls(instructions=instructions, weights=weights, **manifest)
            _check(program)
        except ProgramError:
            raise
        except KeyError as error:
            raise ProgramError(f"{path} is corrupt: its manifest lacks {error}") from None
        except (AttributeError, TypeError, ValueError) as error:
            raise ProgramError(f"{path} is corrupt: {error}") from None
        return program


def _tensor(entry: dict) -> Tensor:
    return Tensor(**{**entry, "scale": tuple(entry["scale"])})


def _config(fields: dict, digest: int) -> Config:
    config = Config.from_fields(fields)
    if config.digest != digest:
        raise ValueError(f"digest of {config.name} is {config.digest:08x}, not {digest:08x}")
    return config


def _check(program: Launch) -> None:
    """ValueError if the parts of a program that was read do not fit each other."""
    count = len(isa.decode_program(program.instructions))
    if len(program.labels) != count:
        raise ValueError(f"{len(program.labels)} labels for {count} instructions")
    if program.weights.dtype != np.uint8 or program.weights.ndim != 1:
        raise ValueError(f"weights are {program.weights.dtype}{list(program.weights.shape)}")
    for tensor in (*program.inputs, program.output):
        end = tensor.offset + tensor.nbytes
        if tensor.offset < 0 or end > program.io_bytes:
            raise ValueError(f"a tensor ends at byte {end}, the IO window has {program.io_bytes}")
        if tensor.width * tensor.bits > 8 * tensor.pitch:
            raise ValueError(f"{tensor.width} elements exceed a pitch of {tensor.pitch} bytes")
    for index, sequence in program.sequences:
        if not (0 <= index < count and 0 <= sequence < program.batch):
            raise ValueError(f"instruction {index} for sequence {sequence} is not there")
