"""``bench model``: a whole model on a device, counted, timed and compared with its golden forms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from transept.golden import isa
from transept.golden.config import Config
from transept.golden.isa import Engine, Filter, Instruction, Opcode
from transept.host.devices.rtl import RtlDevice
from transept.host.models import Prepared, TextModel
from transept.host.runtime.program import Part
from transept.host.runtime.session import Session
from transept.host.texts import passages
from transept.sim.timeline import last_run, retirements, slices

#: Share of letters in plain text, the rest being spaces and punctuation.
PLAIN = 0.75
CHARACTERS_PER_TOKEN = 7
#: Of a region's run, in its timeline.
SLICES = 120

__all__ = ["array_cycles", "bench_model", "layer_cycles", "long_texts"]


def long_texts(model: TextModel, tokens: int, batch: int) -> list[str]:
    """``batch`` passages of plain words that fill ``tokens`` tokens, as far as there are such."""
    plain = [text for text in passages() if sum(map(str.isalpha, text)) > PLAIN * len(text)]
    plain.sort(key=lambda text: abs(len(text) - CHARACTERS_PER_TOKEN * tokens))
    full = [text for text in plain if model.longest([text], tokens) == tokens]
    return [*full, *plain][:batch]


def array_cycles(instruction: Instruction, config: Config) -> int:
    """Cycles of the array's work on an instruction of GEMM, if a filter keeps every key."""
    if instruction.opcode == Opcode.MATMUL:
        tiles = instruction.k_tiles * instruction.n_tiles << instruction.halves
    else:
        tiles = instruction.d_tiles * (instruction.keys // config.tile + 1)
    return (instruction.rows + 1) * tiles


def layer_cycles(
    labels: Sequence[str],
    instructions: Sequence[Instruction],
    config: Config,
    retired: Sequence[int],
) -> dict[str, int]:
    """Cycles of every layer, from the start of the run to its last product.

    labels: of the instructions; retired: cycle in which each instruction of GEMM retired.

    Layers overlap: while the results of one leave the array, the next one is at work on it. A layer
    ends with its retirement, but so early that the array had the time for all that came later; so
    no layer is counted fewer cycles than its products take.
    """
    filters = {i.filter for i in instructions if i.opcode == Opcode.SCORES}
    known = {Opcode.MATMUL}
    if filters <= {Filter.DENSE}:  # what another filter keeps depends on data
        known |= {Opcode.SCORES, Opcode.CONTEXT}
    work = [
        (label, array_cycles(instruction, config) if instruction.opcode in known else 0)
        for label, instruction in zip(labels, instructions, strict=True)
        if instruction.engine == Engine.GEMM
    ]
    ends = list(retired)
    for index in range(len(ends) - 1, 0, -1):
        ends[index - 1] = min(ends[index - 1], ends[index] - work[index][1])
    totals: dict[str, int] = defaultdict(int)
    for (label, _), start, end in zip(work, [0, *ends], ends, strict=False):
        totals[label] += end - start
    return dict(totals)


@dataclass
class _Measured:
    """What was counted while regions ran: cycles of every operator, if the device knows time."""

    cycles: dict[str, int] = field(default_factory=dict)
    sha256: str | None = None
    timeline: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, part: Part, session: Session) -> None:
        device, executable = session.opened, part.result.executable
        report = part.result.report
        if not isinstance(device, RtlDevice) or executable is None or report is None:
            return
        if not device.simulation.keeps_timeline:  # a placement's own device
            return
        image = executable.linked(executable.shape.rows | dict(part.lengths))
        changes = last_run(device.simulation.timeline(), report.cycles)
        self.sha256 = device.rtl_sha256
        self.timeline.append(
            {
                "region": part.region.name,
                "cycles": report.cycles,
                "engines": _shares(changes, report.cycles),
            }
        )
        self.cycles |= layer_cycles(
            executable.labels,
            isa.decode_program(image),
            part.region.config,
            retirements(changes)[Engine.GEMM],
        )


def _shares(changes: np.ndarray, cycles: int) -> dict[str, list[float]]:
    """The share of each of ``SLICES`` slices of a run in which an engine works."""
    pieces, width = slices(changes, cycles), cycles / SLICES
    found = {piece.track: [0.0] * SLICES for piece in pieces}
    for piece in pieces:
        if piece.state != "busy":
            continue
        for index in range(int(piece.start / width), min(int(piece.stop / width), SLICES - 1) + 1):
            inside = min((index + 1) * width, piece.stop) - max(index * width, piece.start)
            found[piece.track][index] += max(0.0, inside) / width
    return found


def bench_model(model: Prepared, *, device: str, **options: Any) -> dict[str, Any]:
    """Run a compiled model once; every figure of one report.

    Mismatches count elements of all regions' outputs. ``cosine`` has one entry for each row of
    every tensor that the model returns.

    Raises
    ------
    ValueError
        If it returns none.
    """
    program, measured = model.program, _Measured()
    if device == "rtl":
        options["timeline"] = True
    result = program.run(*model.inputs, device=device, watch=measured, **options)
    notes, last = list(program.notes), program.last
    assert last is not None
    got, want = (list(_tensors(value)) for value in (result, program.reference(*model.inputs)))
    if not got:
        raise ValueError(f"{model.name} returns no tensor of real numbers")
    cosine = torch.cat([_cosines(*pair) for pair in zip(got, want, strict=True)])
    figures = _figures(model, device, last.parts, measured)
    figures |= {
        "mismatches_vs_emulator": sum(_mismatches(model, part, "emulator") for part in last.parts),
        "mismatches_vs_golden": sum(_mismatches(model, part, "golden") for part in last.parts),
        "clipped": last.clipped,
        "cosine_mean": cosine.mean().item(),
        "cosine_min": cosine.min().item(),
        "cosine": cosine.tolist(),
        "texts": list(model.texts),
        "notes": [*notes, *model.notes],
    }
    if model.texts:
        batch, tokens = model.inputs[0].shape
        figures |= {
            "tokens": tokens,
            "batch": batch,
            "similarity": (got[0] @ got[0].T).tolist(),
            "similarity_float32": (want[0] @ want[0].T).tolist(),
        }
    return figures


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """The real tensors in what a model returns, which may be nested."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _cosines(got: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    """float64[rows], of rows of the last dimension."""
    a, b = (x.detach().double().reshape(-1, x.shape[-1] if x.ndim else 1) for x in (got, want))
    return torch.nn.functional.cosine_similarity(a, b)


def _mismatches(model: Prepared, part: Part, device: str) -> int:
    """Elements of a region's outputs that are others on another device."""
    other = model.program.run_region(part.region, part.inputs, part.lengths, device)
    pairs = ((y, other.result.outputs[name]) for name, y in part.result.outputs.items())
    return sum(int(np.count_nonzero(a != b)) for a, b in pairs)


def _macs(part: Part) -> dict[str, int]:
    """Multiply-accumulates of every operator of a region, padding not counted."""
    shape = part.region.check(part.inputs, part.lengths)
    return part.region.graph.macs(shape.rows | dict(part.lengths))


def _figures(
    model: Prepared, device: str, parts: Sequence[Part], measured: _Measured
) -> dict[str, Any]:
    """Counters of the run; None where the device knows no time."""
    config, explanation = model.program.config, model.program.explain()
    macs = {name: count for part in parts for name, count in _macs(part).items()}
    counted = [part for part in parts if part.result.report is not None]
    reports = [part.result.report for part in parts if part.result.report is not None]
    seconds = sum(part.result.seconds for part in parts)
    figures: dict[str, Any] = {
        "shapes": [list(x.shape) for x in model.inputs],
        "regions": len(parts),
        "devices": sorted({part.result.device for part in parts}),
        "launches": len(reports),
        "macs": sum(macs.values()),
        "macs_share": explanation["macs_share"],
        "predicted_cycles": explanation["predicted_cycles"],
        "wall_seconds": seconds,
        "fallback": explanation["fallback"],
    }
    if reports:
        cycles = sum(report.cycles for report in reports)
        done = sum(macs[name] for part in counted for name in _macs(part))
        figures |= {
            "cycles": cycles,
            "utilisation": done / config.macs / cycles if cycles else None,
            "bytes_read": sum(report.bytes_read for report in reports),
            "bytes_written": sum(report.bytes_written for report in reports),
            "array_cycles": sum(report.array_cycles for report in reports),
            "busy": _added([report.busy for report in reports]),
            "stalls": {
                engine: _added([report.stalls[engine] for report in reports])
                for engine in reports[0].stalls
            },
        }
    if measured.sha256 is not None:
        figures["simulated_khz"] = figures["cycles"] / seconds / 1000
        figures["rtl_sha256"] = measured.sha256
        figures["timeline"] = measured.timeline
    return figures | {"layers": _layers(parts, macs, measured.cycles, config, explanation)}


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The sums of counters with the same names, those of zero too."""
    return {name: sum(count[name] for count in counts) for name in counts[0]}


def _layers(
    parts: Sequence[Part],
    macs: dict[str, int],
    cycles: dict[str, int],
    config: Config,
    explanation: dict[str, Any],
) -> list[dict[str, Any]]:
    """A row for every operator that multiplies, and for what torch computes."""
    rows = [
        {
            "name": name,
            "device": part.result.device,
            "macs": macs[name],
            "cycles": cycles.get(name),
            "utilisation": macs[name] / config.macs / cycles[name] if cycles.get(name) else None,
            "reason": "" if part.result.report is None else "on the accelerator",
        }
        for part in parts
        for name in _macs(part)
        if macs[name]
    ]
    return rows + [
        {
            "name": entry["name"],
            "device": "torch",
            "macs": entry["macs"] or None,
            "cycles": None,
            "utilisation": None,
            "reason": f"{entry['operator']}: {entry['reason']}",
        }
        for entry in explanation["fallback"]
    ]
