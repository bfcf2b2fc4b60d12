"""The limits of every field of a program file: what is refused, and what just fits."""

import re

import pytest
from graphs import post_norm
from program_files import EXPLANATION, edited, parts, rebuilt

from transept.golden.config import CONTRACT_VERSION, TINY
from transept.golden.isa import Window
from transept.host.compiler.tensors import window_bytes
from transept.host.runtime import executable_file, file, graph_file
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.file import load, save
from transept.host.runtime.region import Region


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    region = Region("region", post_norm(1, 8, 2, [4]), TINY)
    region.executable(region.shape(1, {"rows": 4}))
    path = tmp_path_factory.mktemp("program") / "program"
    save(path, TINY, [region], EXPLANATION)
    return path.read_bytes()


#: No field may hold it.
WRONG = -(1 << 80)


def integer(least, most):
    return f"an integer from {least} to {most}"


def listed(least, most):
    return f"a list of {least} to {most} elements"


def text(most):
    return f"a text of 1 to {most} printable characters"


GRAPH, RUN = "regions.0.graph.", "regions.0.executables.0."
LIMITS = {
    "contract": integer(0, 65536),
    "config.digest": integer(0, 4294967295),
    "config.fields.name": text(256),
    "config.fields.clock_mhz": integer(0, 1048576),
    "config.fields.memories.act_banks": listed(0, 64),
    "config.fields.blocks.norm": "true or false",
    "regions": listed(1, 4096),
    "regions.0.name": text(256),
    "regions.0.digest": "a text like [0-9a-f]{64}",
    "regions.0.executables": listed(0, 4096),
    GRAPH + "dims": listed(1, 64),
    GRAPH + "dims.0.name": text(256),
    GRAPH + "dims.0.limit": integer(1, 16777216),
    GRAPH + "values": listed(0, 65536),
    GRAPH + "values.0.width": integer(1, 1048576),
    GRAPH + "values.0.bits": integer(1, 64),
    GRAPH + "inputs": listed(1, 65536),
    GRAPH + "outputs": listed(1, 65536),
    GRAPH + "states": listed(0, 65536),
    GRAPH + "operators": listed(1, 65536),
    GRAPH + "operators.0.operator": "one of linear, norm, attention, add, multiply, rotary",
    GRAPH + "operators.0.epsilon": integer(-4294967296, 4294967296),
    GRAPH + "operators.4.filter.kind": "one of dense, causal, tile_threshold, window",
    GRAPH + "operators.4.filter.parameter": integer(0, 4294967295),
    RUN + "batch": integer(1, 65536),
    RUN + "lengths": "an object of at most 65536 fields",
    RUN + "lengths.rows": integer(1, 16777216),
    RUN + "cut.group": integer(1, 65536),
    RUN + "cut.rows": listed(0, 65536),
    RUN + "cut.rows.0": integer(0, 16777216),
    RUN + "cut.queries": integer(0, 16777216),
    RUN + "cut.heads": integer(0, 65536),
    RUN + "cut.scores": integer(0, 65536),
    RUN + "cut.spilled": listed(0, 65536),
    RUN + "cut.fill": "a number from 0 to 1",
    RUN + "operands": listed(0, 65536),
    RUN + "label_names": listed(1, 65536),
    RUN + "predicted_cycles": integer(0, 9007199254740992),
    "explanation.linears_total": integer(0, 9007199254740992),
    "explanation.attention_on": integer(0, 9007199254740992),
    "explanation.macs_share": "a number from 0 to 1",
    "explanation.predicted_cycles": integer(0, 9007199254740992),
    "explanation.regions": listed(0, 4096),
    "explanation.regions.0.name": text(256),
    "explanation.regions.0.operators": listed(0, 65536),
    "explanation.regions.0.macs": integer(0, 9007199254740992),
    "explanation.regions.0.predicted_cycles": integer(0, 9007199254740992),
    "explanation.fallback": listed(0, 4096),
    "explanation.fallback.0.name": text(4000),
    "explanation.fallback.0.operator": text(4000),
    "explanation.fallback.0.macs": integer(0, 9007199254740992),
    "explanation.fallback.0.reason": text(4000),
}


def test_every_field_tells_its_limits(data, tmp_path):
    path, told = tmp_path / "program", {}
    for place in LIMITS:
        path.write_bytes(edited(data, place, WRONG))
        with pytest.raises(ProgramError) as found:
            load(path)
        where = re.sub(r"\.(\d+)", r"[\1]", f"manifest.{place}")
        told[place] = str(found.value).removeprefix(f"{path}: {where} is {WRONG}, must be ")
    assert told == LIMITS


def refuse(path, data, message):
    path.write_bytes(data)
    with pytest.raises(ProgramError, match=message):
        load(path)


def test_files_and_manifests_of_the_largest_size_are_read(data, tmp_path, monkeypatch):
    sizes = file.LARGEST_FILE, file.LARGEST_MANIFEST
    assert sizes == (4 << 30, 16 << 20)
    path, length = tmp_path / "program", int.from_bytes(data[51:59], "little")
    path.write_bytes(data)
    monkeypatch.setattr(file, "LARGEST_FILE", len(data))
    monkeypatch.setattr(file, "LARGEST_MANIFEST", length)
    load(path)
    monkeypatch.setattr(file, "LARGEST_MANIFEST", length - 1)
    message = f"has a manifest of {length} bytes, at most {length - 1} are read"
    refuse(path, data, message)


def test_on_chip_memories_of_the_largest_size_are_read(data, tmp_path, monkeypatch):
    assert graph_file.LARGEST_MEMORY == 1 << 24
    path, elements = tmp_path / "program", TINY.act_words * TINY.tile
    path.write_bytes(data)
    monkeypatch.setattr(graph_file, "LARGEST_MEMORY", elements)
    load(path)
    monkeypatch.setattr(graph_file, "LARGEST_MEMORY", elements - 1)
    message = f"fields.memories.act_banks has {elements} elements, at most {elements - 1} are"
    refuse(path, data, message)
    monkeypatch.setattr(graph_file, "LARGEST_MEMORY", 4 * 6000 - 1)
    message = "fields.memories.stat_words has 24000 elements, at most 23999 are"
    refuse(path, edited(data, "config.fields.memories.stat_words", 6000), message)


def test_windows_of_the_largest_size_are_read(data, tmp_path, monkeypatch):
    assert executable_file.LARGEST_WINDOW == 512 << 20
    path = tmp_path / "program"
    path.write_bytes(data)
    executables = [e for region in load(path).regions for e in region.executables.values()]
    largest = max(len(e.instructions) for e in executables)
    windows = {
        window_bytes(executable.tensors, window)
        for executable in executables
        for window in (Window.IO, Window.SCRATCH)
    }
    monkeypatch.setattr(executable_file, "LARGEST_WINDOW", max(largest, *windows))
    load(path)
    monkeypatch.setattr(executable_file, "LARGEST_WINDOW", largest - 1)
    refuse(path, data, f"instructions has {largest} bytes, at most {largest - 1} fit")


#: Arrays of an executable that are changed, and what is said of them.
ARRAYS = [
    ("patches", lambda a: put(a, (0, 4), 1 << 24), "scale 16777216, outside -16777216 to 16777215"),
    ("patches", lambda a: put(a, (0, 4), ~(1 << 24)), "has scale -16777217, outside -16777216 to"),
    (
        "patches",
        lambda a: put(a, (0, 5), 1 << 24),
        "offset 16777216, outside -16777216 to 167",
    ),
    ("patches", lambda a: put(a, (0, 5), -(1 << 24)), "keys"),
    ("patches", lambda a: a[:, :, None], r"has shape \[\d+, 6, 1\], must be \[n, 6\]$"),
    ("patches", lambda a: put(a, (0, 1), -1), "patches has operand -1, outside 0 to 0"),
    ("patches", lambda a: put(a, (0, 2), -1), "patches has dimension -1, outside 0 to 0"),
    ("patches", lambda a: put(a, (0, 3), -1), "patches has sequence -1, outside 0 to 0"),
    ("labels", lambda a: a[:, None], r"labels has shape \[\d+, 1\] for \d+ instructions$"),
    ("labels", lambda a: put(a, 0, 1 << 20), r"labels has label 1048576, outside 0 to \d+$"),
    ("instructions", lambda a: a[None], r"has \d+ bytes, must be a multiple of 32$"),
]


def put(array, place, value):
    """The array with one element changed."""
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(("name", "change", "message"), ARRAYS)
def test_arrays_of_an_executable_are_checked(data, tmp_path, name, change, message):
    refuse(tmp_path / "program", edited(data, RUN + name, change), message)


def test_a_patch_of_an_unknown_instruction_is_told(data, tmp_path):
    """Before instructions are verified."""
    manifest, arrays = parts(data)
    run = manifest["regions"][0]["executables"][0]
    first = int(arrays[run["patches"]][0, 0])
    arrays[run["instructions"]][32 * first] = 99
    message = f"patches: instruction {first} has no known opcode$"
    refuse(tmp_path / "program", rebuilt(manifest, arrays), message)


def test_what_check_says_in_full(data, tmp_path):
    path = tmp_path / "program"
    path.write_bytes(data)
    (region,) = load(path).regions
    (executable,) = region.executables.values()
    count, cycles = len(executable.instructions) // 32, executable.predicted_cycles
    assert file.check(path) == [
        f"format transept-program-2, {len(data):,} bytes, SHA-256 {data[19:51].hex()}",
        f"contract {CONTRACT_VERSION}, configuration tiny ({TINY.digest:08x})",
        f"region region: 10 operators, {region.weights.size:,} bytes of weights, v0 to v10",
        f"region region of 1 x 4 rows: {count} instructions verified, {cycles:,} cycles predicted",
    ]
