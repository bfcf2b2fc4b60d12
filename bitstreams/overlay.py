"""Overlays: a bitstream, its hand-off, and a manifest of what the hardware says of itself.

All files of one build have its number in their names. What a board or a client keeps of an older
build (it looks for files by name, and for hand-offs by the bitstream's hash) is never taken for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from transept.bitstreams.bitfile import write_bitfile
from transept.bitstreams.boards import Board
from transept.bitstreams.hwh import hwh
from transept.golden.config import CONTRACT_VERSION

__all__ = [
    "Manifest",
    "Overlay",
    "build_name",
    "find_overlay",
    "read_manifest",
    "simulated_overlay",
]

SIMULATED = "simulation"
#: What JSON has for the fields of a manifest.
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "dict[str, float] | None": (dict, type(None)),
}
#: Hexadecimal digits of a build's number.
_DIGITS = 12


@dataclass(frozen=True)
class Manifest:
    """What an overlay is.

    tool: what built it, with its version; config_digest, contract: contents of the registers CONFIG
    and CONTRACT; rtl_sha256: of the Verilog. Of real hardware also the part, rtl_tools: what made
    the Verilog, resources: how many lut, ff, dsp, bram (BRAM36) and uram it takes, fmax_mhz: what
    its timing allows, slack_ns: of the longest path at its clock.
    """

    board: str
    config: str
    config_digest: int
    contract: int
    clock_mhz: float
    rtl_sha256: str
    tool: str
    part: str = ""
    rtl_tools: str = ""
    resources: dict[str, float] | None = None
    fmax_mhz: float | None = None
    slack_ns: float | None = None


@dataclass(frozen=True)
class Overlay:
    """The files of one build: ``.bit``, ``.hwh`` and ``.json`` of one name."""

    bitfile: Path
    manifest: Manifest

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(self.bitfile.with_suffix(suffix) for suffix in (".bit", ".hwh", ".json"))


def simulated_overlay(folder: Path, board: Board, verilog: str) -> Overlay:
    """Write the overlay that makes a simulated board's logic this accelerator; verilog: its text.

    The bitstream holds the configuration, so that the hardware of another one is another bitstream.
    """
    manifest = Manifest(
        board=board.name,
        config=board.config.name,
        config_digest=board.config.digest,
        contract=CONTRACT_VERSION,
        clock_mhz=board.config.clock_mhz,
        rtl_sha256=hashlib.sha256(verilog.encode()).hexdigest(),
        tool=SIMULATED,
        part=board.part,
    )
    description = hwh(board)
    design = {"config": dataclasses.asdict(board.config), "register_base": board.register_base}
    facts = json.dumps([dataclasses.asdict(manifest), description, design], sort_keys=True)
    bitfile = folder / f"{build_name(board, facts)}.bit"
    folder.mkdir(parents=True, exist_ok=True)
    bitfile.write_bytes(write_bitfile(bitfile.stem, board.part, design))
    bitfile.with_suffix(".hwh").write_text(description)
    text = json.dumps(dataclasses.asdict(manifest), indent=2) + "\n"
    bitfile.with_suffix(".json").write_text(text)
    return Overlay(bitfile, manifest)


def build_name(board: Board, facts: str) -> str:
    """The name of a build without a suffix; facts: all that it is made from."""
    return f"transept_{board.name}_{hashlib.sha256(facts.encode()).hexdigest()[:_DIGITS]}"


def find_overlay(folder: Path, board: str) -> Overlay:
    """The one overlay of a board in a folder.

    Raises
    ------
    ValueError
        If there is none or more than one, or a file of it is missing.
    """
    found = sorted(folder.glob("*.bit"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ValueError(f"{folder} must hold one bitstream, there is {names}")
    manifest = read_manifest(found[0])
    if manifest.board != board:
        raise ValueError(f"{found[0].name} is for {manifest.board}, not for {board}")
    overlay = Overlay(found[0], manifest)
    for path in overlay.files:
        if not path.is_file():
            raise ValueError(f"{found[0].name} has no {path.name} beside it")
    return overlay


def read_manifest(bitfile: Path) -> Manifest:
    """The manifest beside a bitstream.

    Raises
    ------
    ValueError
        If it is missing or not as ``Manifest``.
    """
    path = bitfile.with_suffix(".json")
    if not path.is_file():
        raise ValueError(f"{bitfile.name} has no {path.name} beside it")
    try:
        manifest = Manifest(**json.loads(path.read_text()))
        _check(manifest)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path.name} is no manifest: {error}") from None
    return manifest


def _check(manifest: Manifest) -> None:
    for field in dataclasses.fields(Manifest):
        value, kind = getattr(manifest, field.name), str(field.type)
        if isinstance(value, bool) or not isinstance(value, _KINDS[kind]):
            raise ValueError(f"{field.name} is {value!r}, must be {kind}")
