"""Program files: what goes in comes out, and nothing else gets in."""

import json
import os
import stat
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from graphs import random_inputs
from program_files import ABSENT, EXPLANATION, MAGIC, edited, made, parts, rebuilt, sealed

from transept.golden import isa
from transept.golden.config import CONTRACT_VERSION, TINY
from transept.golden.isa import INSTRUCTION_BYTES, Opcode
from transept.host.runtime import file
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.file import FORMAT, check, load, save
from transept.host.runtime.region import Region
from transept.host.runtime.session import Session

SECONDS, BYTES = 1, 32 << 20


@pytest.fixture(scope="module")
def regions():
    return made()


@pytest.fixture(scope="module")
def data(regions, tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "program"
    save(path, TINY, regions, EXPLANATION)
    return path.read_bytes()


@pytest.fixture
def refused(tmp_path):
    """Loads what was made of a file; it must be refused soon and without much memory, at the second
    time at the latest: the first may find a machine that is busy."""

    def refuse(data, message):
        path = tmp_path / "program"
        path.write_bytes(data)
        if not soon(path, message):
            assert soon(path, message), f"takes over {SECONDS} s"

    def soon(path, message):
        tracemalloc.start()
        start = time.process_time()
        try:
            with pytest.raises(ProgramError, match=message) as found:
                load(path)
            seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < BYTES
        assert str(found.value).startswith((f"{path}: ", f"{path} is ", f"{path} has "))
        return seconds < SECONDS

    return refuse


# --- round trip
def test_what_is_saved_is_loaded(regions, data, tmp_path):
    path = tmp_path / "program"
    path.write_bytes(data)
    config, loaded, explanation = load(path)
    assert config == TINY
    assert explanation == EXPLANATION
    assert [region.name for region in loaded] == ["encoder", "chain"]
    for before, after in zip(regions, loaded, strict=True):
        assert np.array_equal(before.weights, after.weights)
        assert before.executables.keys() == after.executables.keys()
        for name, value in before.graph.values.items():
            assert np.array_equal(after.graph.values[name].scale, value.scale)
        for shape, executable in before.executables.items():
            found = after.executables[shape]
            for what in executable.__dataclass_fields__:
                assert getattr(found, what) == getattr(executable, what), what


def test_a_loaded_program_gives_the_same_bits(regions, data, tmp_path):
    path = tmp_path / "program"
    path.write_bytes(data)
    sessions = [Session(TINY, "emulator"), Session(TINY, "cpu")]
    for before, after in zip(regions, load(path).regions, strict=True):
        for batch, rows in ((1, 5), (2, 7), (1, 20)):
            inputs = random_inputs(before.graph, batch, rows)
            lengths = {"rows": [rows - index for index in range(batch)]}
            wanted = before.graph.evaluate(inputs, lengths)
            for session in sessions:
                result = session.run(after, inputs, lengths)
                assert result.device == session.device
                assert all(np.array_equal(result.outputs[n], wanted[n]) for n in wanted)


def test_saving_what_was_loaded_gives_the_same_file(data, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(data)
    save(second, *load(first))
    assert second.read_bytes() == data


def test_shared_constants_are_there_once(tmp_path):
    region = made()[1]
    again = Region("again", region.graph, TINY)
    save(tmp_path / "one", TINY, [region])
    save(tmp_path / "two", TINY, [region, again])
    _, one = parts((tmp_path / "one").read_bytes())
    _, two = parts((tmp_path / "two").read_bytes())
    assert one.keys() == two.keys()


def test_check_says_what_it_found(data, tmp_path):
    path = tmp_path / "program"
    path.write_bytes(data)
    lines = check(path)
    assert lines[0].startswith(f"format {FORMAT}, {len(data):,} bytes, SHA-256 ")
    assert lines[0].endswith(data[len(MAGIC) : len(MAGIC) + 32].hex())
    assert lines[1] == f"contract {CONTRACT_VERSION}, configuration tiny ({TINY.digest:08x})"
    assert lines[2].startswith("region encoder: 19 operators, ")
    assert "region encoder of 2 x 9 rows: " in lines[3]
    assert "instructions verified" in lines[3]
    assert [line.split(":")[0] for line in lines[2:]] == [
        "region encoder",
        "region encoder of 2 x 9 rows",
        "region encoder of 1 x 16 rows",
        "region chain",
        "region chain of 1 x 5 rows",
    ]
    path.write_bytes(data[:-1])
    with pytest.raises(ProgramError, match="is corrupt"):
        check(path)


# --- damage
def test_a_thousand_flipped_bits_are_all_refused(data, tmp_path):
    path = tmp_path / "program"
    rng = np.random.default_rng(1)
    bits = [*range(8 * len(MAGIC)), *rng.choice(8 * len(data), 1000, replace=False).tolist()]
    for bit in bits:
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        with pytest.raises(ProgramError, match=f"is corrupt|is no {FORMAT} file"):
            load(path)


@pytest.mark.parametrize("keep", [0, 1, 18, 19, 30, 51, 55, 59, 60, 1000, -1000, -32, -1])
def test_cut_files_are_refused(data, keep, refused):
    refused(data[:keep], f"is corrupt|is no {FORMAT} file")


@pytest.mark.parametrize(
    "foreign",
    [
        b"transept-program-1\n" + bytes(100),
        b"\x7fELF" + bytes(1000),
        safetensors.numpy.save({"x": np.zeros(3)}),
        "🙂".encode() * 50,
    ],
)
def test_foreign_files_are_refused(foreign, refused):
    refused(foreign, f"is no {FORMAT} file")


def test_appended_bytes_are_refused(data, refused):
    refused(data + b"\0", "is corrupt: its SHA-256 is another one")


def test_what_is_no_file(tmp_path, monkeypatch):
    with pytest.raises(ProgramError, match=r"no program file .*missing"):
        load(tmp_path / "missing")
    with pytest.raises(ProgramError, match="is no regular file"):
        load(tmp_path)
    with pytest.raises(ProgramError, match="/dev/zero is no regular file"):
        load("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ProgramError):
        load(tmp_path / "loop")
    with pytest.raises(ProgramError, match=r"cannot be read: File name too long$"):
        load(tmp_path / ("x" * 300))
    (tmp_path / "long").write_bytes(bytes(100))
    monkeypatch.setattr(file, "LARGEST_FILE", 99)
    with pytest.raises(ProgramError, match="long has 100 bytes, at most 99 are read"):
        load(tmp_path / "long")


# --- manifests that are none
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "manifest is no JSON"),
        (b"[1, 2", "manifest is no JSON"),
        (b"\xff\xfe\xfd", "manifest is no JSON"),
        (b'{"contract": NaN}', "manifest is no JSON: NaN is no number"),
        (b'{"contract": -Infinity}', "manifest is no JSON: -Infinity is no number"),
        (b'{"a": 1, "a": 2}', "manifest is no JSON: field 'a' is there twice"),
        (b"[" * 100_000, "manifest has 100000 levels, at most 16 are allowed"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "manifest has 17 levels, at most 16 are allowed"),
        (b"1" * 5000, "manifest is no JSON"),
        (b"null", "manifest is None, must be an object with a field contract"),
        (b"[]", r"manifest is \[\], must be an object with a field contract"),
    ],
)
def test_manifests_that_are_none(text, message, refused):
    refused(sealed(text, safetensors.numpy.save({})), message)


def test_brackets_in_text_are_no_levels(data, refused):
    manifest, arrays = parts(data)
    manifest["explanation"]["fallback"][0]["reason"] = '[{"' * 100
    manifest["contract"] = 99
    refused(rebuilt(manifest, arrays), f"manifest.contract is 99, must be {CONTRACT_VERSION}")


def test_a_manifest_longer_than_the_file(data, refused):
    refused(sealed(b"{}", b"", 1 << 60), f"has a manifest of {1 << 60} bytes, at most")
    refused(sealed(b"{}", b"", 1000), "has a manifest of 1000 bytes, more than the file")


def test_containers_that_are_none(data, refused):
    manifest, arrays = parts(data)
    text = json.dumps(manifest).encode()
    container = safetensors.numpy.save(arrays)
    refused(sealed(text, b""), "manifest has no arrays")
    refused(sealed(text, container[:-1]), r"array .* lies at \d+ to \d+, must begin at \d+ and end")
    refused(sealed(text, (1 << 60).to_bytes(8, "little") + container[8:]), "has no arrays")
    other = container.replace(b'"F64"', b'"U64"', 1)
    refused(sealed(text, other), "is U64, must be one of U8, I8, U16, I16, I64, F64")
    arrays["more"] = np.zeros(3)
    refused(rebuilt(manifest, arrays), "nothing uses array more")


# --- edits with a digest that fits
ENCODER, CHAIN = "regions.0.", "regions.1."
VALUES, OPS = ENCODER + "graph.values.", ENCODER + "graph.operators."
NORM, LINEAR, ATTENTION, UP = (OPS + f"{n}." for n in (0, 1, 4, 7))
RUN = ENCODER + "executables.0."
NAN = float("nan")


def put(value, *place):
    """The array with one element changed."""

    def change(array):
        array = array.copy()
        array[place or (0,) * array.ndim] = value
        return array

    return change


def instruction(index, **changes):
    """Instructions with one of them changed; index counts those of its opcode."""

    def change(array):
        program = isa.decode_program(array.tobytes())
        opcode, number = index
        at = [i for i, found in enumerate(program) if found.opcode == opcode][number]
        masks = {name: changes.pop(name, getattr(program[at], name)) for name in ("wait", "signal")}
        operands = {**program[at].operands, **changes}
        program[at] = isa.Instruction(opcode, operands, **masks)
        return np.frombuffer(isa.encode_program(program), np.uint8)

    return change


def byte(at, value):
    def change(array):
        return put(value, at)(array)

    return change


END = bytes(INSTRUCTION_BYTES)

#: (path, new value or change of the array that is named there, message)
EDITS = [
    # the whole
    ("contract", 1, f"manifest.contract is 1, must be {CONTRACT_VERSION}"),
    ("contract", "2", "manifest.contract is '2', must be an integer from 0 to 65536"),
    ("contract", True, "manifest.contract is True, must be an integer"),
    ("contract", 10**400, "manifest.contract is 1000"),
    ("contract", ABSENT, "must be an object with a field contract"),
    ("more", 1, "manifest has an unknown field 'more'"),
    ("config", ABSENT, "manifest has no field config"),
    ("explanation", ABSENT, "manifest has no field explanation"),
    # the configuration
    ("config.digest", 5, "config.digest is 5, must be .* the digest of tiny here"),
    ("config.digest", -1, "config.digest is -1, must be an integer from 0"),
    ("config.fields.name", "../../evil", "name must be an identifier, got '../../evil'"),
    ("config.fields.name", "..", "name must be an identifier, got '..'"),
    ("config.fields.name", "", "name is '', must be a text of 1 to 256"),
    ("config.fields.name", 7, "config.fields.name is 7, must be a text"),
    ("config.fields.name", "x" * 65, r"config.digest is \d+, must be"),
    ("config.fields.clock_mhz", "100", "clock_mhz is '100', must be an integer"),
    ("config.fields.clock_mhz", 101, "config.digest is .* must be"),
    ("config.fields.geometry.max_rows", 1 << 40, "max_rows is 1099511627776, must be an integer"),
    ("config.fields.geometry.tile", 3, "tile must be a power of two, got 3"),
    ("config.fields.geometry.tile", 0, "tile must be a power of two, got 0"),
    ("config.fields.geometry.max_keys", 65, "max_keys must be a multiple of tile=4, got 65|65"),
    ("config.fields.geometry.more", 1, "geometry has an unknown field 'more'"),
    ("config.fields.geometry", [], r"geometry is \[\], must be an object"),
    ("config.fields.memories.act_banks", [1 << 20] * 8, "act_banks has 33554432 elements"),
    ("config.fields.memories.act_banks", [1] * 65, "must be a list of 0 to 64 elements"),
    ("config.fields.memories.act_banks", ["1"], r"act_banks\[0\] is '1', must be an integer"),
    ("config.fields.memories.stat_words", 1 << 30, "stat_words is 1073741824, must be"),
    ("config.fields.memories.axi_data_bits", -32, "axi_data_bits is -32, must be"),
    ("config.fields.filters.names", ["nope"], "unknown key filter 'nope'"),
    ("config.fields.filters.names", 5, "names is 5, must be a list"),
    ("config.fields.blocks.norm", 1, "blocks.norm is 1, must be true or false"),
    # regions
    ("regions", [], r"manifest.regions is \[\], must be a list of 1 to"),
    ("regions", {}, "manifest.regions is {}, must be a list"),
    (ENCODER + "name", 5, r"regions\[0\].name is 5, must be a text"),
    (ENCODER + "name", "a\nb", r"regions\[0\].name is 'a\\nb', must be a text"),
    (ENCODER + "name", "x" * 257, "must be a text of 1 to 256 printable"),
    (ENCODER + "name", "\ud800", r"regions\[0\].name is .*, must be a text"),
    (ENCODER + "name", "chain", "manifest.regions names a region twice"),
    (ENCODER + "more", 1, r"regions\[0\] has an unknown field 'more'"),
    (ENCODER + "digest", "0" * 64, "must be .*, the SHA-256 of its graph and weights"),
    (ENCODER + "digest", "0" * 63, "digest is '0+.*, must be a text like"),
    (ENCODER + "digest", None, "digest is None, must be a text like"),
    # graphs
    (ENCODER + "graph.dims", [], r"graph.dims is \[\], must be a list of 1"),
    (ENCODER + "graph.dims.0.limit", 0, "limit is 0, must be an integer from 1"),
    (ENCODER + "graph.dims.0.limit", 1 << 40, "limit is 1099511627776, must be an integer"),
    (ENCODER + "graph.dims.0.limit", 8, "SHA-256 of its graph"),
    (ENCODER + "graph.dims.0.name", "lines", "value v0 has an unknown dimension rows"),
    (ENCODER + "graph.dims.1", {"name": "rows", "limit": 1}, "dims names a dimension twice"),
    (VALUES + "0.name", "v1", "the graph defines v0, which is no value"),
    (
        VALUES + "20",
        {"name": "v19", "dim": "rows", "width": 16, "bits": 16, "scale": None},
        "values names a value twice",
    ),
    (VALUES + "0.width", 1 << 40, r"values\[0\].width is 1099511627776, must be an integer"),
    (VALUES + "0.width", 0, r"values\[0\].width is 0, must be an integer from 1"),
    (VALUES + "0.width", 16.0, r"values\[0\].width is 16.0, must be an integer"),
    (VALUES + "0.width", 15, r"scale of v0 is float64\[16\], must be float64\[15\]"),
    (VALUES + "0.bits", 7, "value v0 has 7 bits, must be 8 or 16"),
    (VALUES + "0.bits", 8, "takes int16 rows, v0 has 8 bits"),
    (VALUES + "0.dim", "x", "value v0 has an unknown dimension x"),
    (VALUES + "0.scale", "nothing", "scale is 'nothing', must be the name of an array"),
    (VALUES + "0.scale", put(NAN, 3), "scale of v0 holds nan, must be finite and positive"),
    (VALUES + "0.scale", put(np.inf, 3), "scale of v0 holds inf, must be finite and positive"),
    (VALUES + "0.scale", put(0, 3), "scale of v0 holds 0.0, must be finite and positive"),
    (VALUES + "0.scale", put(-1, 3), "scale of v0 holds -1.0, must be finite and positive"),
    (VALUES + "0.scale", lambda a: a[:1], r"scale of v0 is float64\[1\], must be float64\[16\]"),
    (VALUES + "0.scale", lambda a: a.astype(np.int64), "is int64, must be float64"),
    (VALUES + "0.scale", 1.5, "scale is 1.5, must be a text"),
    (ENCODER + "graph.inputs", [], r"inputs is \[\], must be a list of 1"),
    (ENCODER + "graph.inputs", ["x"], "the graph defines x, which is no value"),
    (ENCODER + "graph.outputs", [], r"outputs is \[\], must be a list of 1"),
    (ENCODER + "graph.outputs", ["x"], "the output reads x, which nothing before it defines"),
    (ENCODER + "graph.outputs", ["v1"], "SHA-256 of its graph"),
    (ENCODER + "graph.states", [{"input": "v0", "output": "v1"}], "a state goes from an output"),
    (ENCODER + "graph.states", [{"input": "v0"}], r"states\[0\] has no field output"),
    (ENCODER + "graph.operators", [], r"operators is \[\], must be a list of 1"),
    # operators
    (OPS + "0.operator", "convolve", r"operators\[0\].operator is 'convolve', must be one of"),
    (OPS + "0.operator", ["norm"], r"operator is \['norm'\], must be one of"),
    (OPS + "0", 5, r"operators\[0\] is 5, must be an object with a field operator"),
    (NORM + "more", 1, r"operators\[0\] has an unknown field 'more'"),
    (NORM + "epsilon", ABSENT, r"operators\[0\] has no field epsilon"),
    (NORM + "epsilon", -1, "norm0: field epsilon=-1 is outside 0 to"),
    (NORM + "epsilon", 1 << 32, "norm0: field epsilon=4294967296 is outside 0 to"),
    (NORM + "epsilon", 1 << 70, "epsilon is 1180591620717411303424, must be an integer"),
    (NORM + "out_shift", 64, "norm0: field out_shift=64 is outside 0 to 63"),
    (NORM + "centre", 1, "centre is 1, must be true or false"),
    (NORM + "centre", False, "SHA-256 of its graph"),
    (NORM + "y", "v9", "operator norm0 reads v9, which nothing before it defines"),
    (NORM + "out", "v0", "operator norm0 defines v0 a second time"),
    (NORM + "sum", 5, "sum is 5, must be a text"),
    (NORM + "parameters", None, "parameters is None, must be an object"),
    (NORM + "parameters.gamma", put(1 << 17), "gamma of norm0 holds 131072, outside"),
    (NORM + "parameters.x_shift", put(16), "x_shift of norm0 holds 16, outside 0 to 15"),
    (NORM + "parameters.y_shift", lambda a: a[:-1], r"is int64\[15\], must be int64\[16\]"),
    (NORM + "parameters.beta", lambda a: a.astype(np.float64), "beta of norm0 is float64"),
    (LINEAR + "name", "norm0", "two operators are called norm0"),
    (LINEAR + "weight", lambda a: a[:, :-1], r"weights of linear1 are int8\[16, 15\], must be"),
    (LINEAR + "weight", lambda a: a.astype(np.int64), "weights of linear1 are int64"),
    (LINEAR + "weight", put(-128), "weights of linear1 hold -128"),
    (LINEAR + "weight", lambda a: -a, "SHA-256 of its graph and weights"),
    (LINEAR + "channel.multiplier", put(1 << 16), "multiplier of linear1 holds 65536, outside"),
    (LINEAR + "channel.shift", put(32), "shift of linear1 holds 32, outside 0 to 31"),
    (LINEAR + "channel.shift", put(-1), "shift of linear1 holds -1, outside 0 to 31"),
    (LINEAR + "channel.bias", put(1 << 23), "bias of linear1 holds 8388608, outside"),
    (LINEAR + "channel.bias", lambda a: np.array(a[0]), r"bias of linear1 is int64\[\], must be"),
    (LINEAR + "row_shift", 64, "linear1: field row_shift=64 is outside 0 to 63"),
    (LINEAR + "row_shift", -1, "linear1: field row_shift=-1 is outside 0 to 63"),
    (LINEAR + "out_shift", 16, "linear1: field out_shift=16 is outside 0 to 15"),
    (LINEAR + "table", 5, "table is 5, must be an object"),
    (UP + "table.width", 16, "width of the table of linear7 holds 16, outside 0 to 15"),
    (UP + "table.start", 40_000, "start of the table of linear7 holds 40000, outside"),
    (UP + "table.c1", put(1 << 23), "c1 of the table of linear7 holds 8388608, outside"),
    (UP + "table.c0", lambda a: a[:63], r"c0 of the table of linear7 is int64\[63\], must be"),
    (ATTENTION + "heads", 0, "attention4 has heads 0"),
    (ATTENTION + "heads", 10**9, "1000000000 heads|heads do not divide|heads for 2"),
    (ATTENTION + "heads", 4, "4 heads|heads of v2 and v3 differ"),
    (ATTENTION + "kv_heads", 0, "attention4 has kv_heads 0"),
    (ATTENTION + "kv_heads", -2, "attention4 has kv_heads -2"),
    (ATTENTION + "block", 0, "attention4 has block 0"),
    (ATTENTION + "k", "v0", "attention4 takes v0 of 8 bits, not 16"),
    (ATTENTION + "score_multiplier", lambda a: a[:1], r"is int64\[1\], must be int64\[2\]"),
    (ATTENTION + "score_shift", put(32), "score_shift of attention4 holds 32, outside"),
    (ATTENTION + "score_row_shift", 64, "attention4: field row_shift=64 is outside"),
    (ATTENTION + "context_out_shift", 16, "attention4: field out_shift=16 is outside"),
    (ATTENTION + "filter.kind", "nope", "filter.kind is 'nope', must be one of"),
    (ATTENTION + "filter.parameter", -1, "filter.parameter is -1, must be an integer"),
    (ATTENTION + "filter.kind", "dense", "filter: .*parameter"),
    # executables
    (ENCODER + "executables", {}, "executables is {}, must be a list"),
    (RUN + "batch", 0, r"executables\[0\].batch is 0, must be an integer from 1"),
    (RUN + "batch", 10**9, "batch is 1000000000, must be an integer from 1 to 65536"),
    (RUN + "batch", 10**12, "batch is 1000000000000, must be an integer"),
    (RUN + "batch", True, "batch is True, must be an integer"),
    (RUN + "batch", 1, "sequence 1, outside 0 to 0"),
    (RUN + "batch", 3, "no instruction writes all of row 8 of v19"),
    (RUN + "lengths", {}, "dimension rows is missing"),
    (RUN + "lengths.more", 5, "encoder has no dimension more"),
    (RUN + "lengths.rows", 0, "lengths.rows is 0, must be an integer from 1"),
    (RUN + "lengths.rows", 1 << 30, "lengths.rows is 1073741824, must be an integer"),
    (RUN + "lengths.rows", 65, "65 rows of rows are outside 1 to 64"),
    (RUN + "lengths.rows", 8, "window IO: .* exceeds its limit"),
    (RUN + "lengths.rows", 10, "patches change instructions|writes all of row"),
    (CHAIN + "executables.0.lengths.rows", 6, "no instruction writes all of row 1 of v5"),
    (CHAIN + "executables.0.batch", 1 << 16, "no instruction writes all of row 0 of v2"),
    (RUN + "cut", None, "cut is None, must be an object"),
    (RUN + "cut.group", 0, "cut.group is 0, must be an integer from 1"),
    (RUN + "cut.rows", "12", "cut.rows is '12', must be a list"),
    (RUN + "cut.spilled", ["x"], r"cut.spilled\[0\] is 'x', must be one of"),
    (RUN + "cut.fill", 2, "cut.fill is 2, must be a number from 0 to 1"),
    (RUN + "cut.resident", 0, "cut.resident is 0, must be true or false"),
    (RUN + "predicted_cycles", -1, "predicted_cycles is -1, must be an integer"),
    (RUN + "predicted_cycles", 1e3, "predicted_cycles is 1000.0, must be an integer"),
    (ENCODER + "executables.1.lengths.rows", 12, "exceeds its limit"),
    # instructions
    (RUN + "instructions", "x", "instructions is 'x', must be the name of an array"),
    (RUN + "instructions", lambda a: a[:-1], "must be a multiple of 32"),
    (RUN + "instructions", lambda a: a[:0], "instructions has 0 bytes, must be"),
    (RUN + "instructions", lambda a: a.astype(np.int64), "is int64, must be uint8"),
    (RUN + "instructions", byte(0, 99), "instruction 0: unknown opcode 0x63"),
    (RUN + "instructions", byte(-1, 1), "reserved bits are set"),
    (RUN + "instructions", lambda a: put(a[0], -32)(a), "rows=0 must be at least 1"),
    (RUN + "instructions", instruction((Opcode.LOAD, 0), offset=1 << 20), "exceeds its limit"),
    (
        RUN + "instructions",
        instruction((Opcode.LOAD, 0), addr=65535),
        r"instruction 0 \(LOAD\): addr=65535",
    ),
    (RUN + "instructions", instruction((Opcode.STORE, 0), rows=1), "no instruction writes all"),
    (RUN + "instructions", instruction((Opcode.STORE, 0), offset=0), "no instruction writes all"),
    (
        RUN + "instructions",
        instruction((Opcode.STORE, 0), wait=frozenset(isa.Engine)),
        "waits for a token",
    ),
    (RUN + "instructions", instruction((Opcode.MATMUL, 0), k_tiles=0), "k_tiles"),
    (RUN + "instructions", instruction((Opcode.SCORES, -1), s_stride=2), "s_stride=2 is less than"),
    (RUN + "instructions", instruction((Opcode.SCORES, 0), keys=3), "patches change instructions"),
    # patches and labels
    (RUN + "patches", lambda a: a[:, :5], r"patches has shape \[\d+, 5\], must be \[n, 6\]"),
    (RUN + "patches", lambda a: a[:0], "has 9 keys for sequences of one row"),
    (RUN + "patches", put(10**6), "patches has instruction 1000000, outside 0 to"),
    (RUN + "patches", put(-1), "patches has instruction -1, outside 0 to"),
    (RUN + "patches", put(0), "instruction 0 has no operand keys"),
    (RUN + "patches", put(1, 0, 1), "patches has operand 1, outside 0 to 0"),
    (RUN + "patches", put(1, 0, 2), "patches has dimension 1, outside 0 to 0"),
    (RUN + "patches", put(2, 0, 3), "patches has sequence 2, outside 0 to 1"),
    (RUN + "patches", put(1, 0, 3), "selection entry|keys"),
    (RUN + "patches", put(1 << 40, 0, 4), "patches has scale 1099511627776, outside"),
    (RUN + "patches", put(2, 0, 4), r"instruction \d+ \(SCORES\)"),
    (RUN + "patches", put(0, 0, 5), "keys"),
    (RUN + "patches", put(-9, 0, 5), "keys"),
    (RUN + "operands", ["addr"], "has no operand addr"),
    (RUN + "operands", ["k\x00"], r"operands\[0\] is .*, must be a text"),
    (RUN + "labels", lambda a: a[:-1], r"labels has shape \[\d+\] for \d+ instructions"),
    (RUN + "labels", put(-1), "labels has label -1, outside 0 to"),
    (RUN + "labels", put(1 << 40), "labels has label 1099511627776, outside 0 to"),
    (RUN + "label_names", [], r"label_names is \[\], must be a list of 1"),
    # the explanation
    ("explanation", [], r"explanation is \[\], must be an object"),
    ("explanation.macs_share", 1.5, "macs_share is 1.5, must be a number from 0 to 1"),
    ("explanation.linears_on", -1, "linears_on is -1, must be an integer"),
    ("explanation.regions.0.more", 1, r"regions\[0\] has an unknown field 'more'"),
    ("explanation.fallback.0.reason", "x" * 5000, "must be a text of 1 to 4000"),
]


@pytest.mark.parametrize(("path", "value", "message"), EDITS)
def test_edits_are_refused(data, path, value, message, refused):
    refused(edited(data, path, value), message)


def test_an_unedited_file_is_accepted(data, tmp_path):
    manifest, arrays = parts(data)
    (tmp_path / "program").write_bytes(rebuilt(manifest, arrays))
    load(tmp_path / "program")


def test_two_executables_of_one_shape(data, refused):
    manifest, arrays = parts(data)
    runs = manifest["regions"][0]["executables"]
    runs.append(runs[0])
    refused(rebuilt(manifest, arrays), r"executables\[2\] is a second one of 2 x 9 rows")


def test_a_shape_beyond_memory(data, refused):
    manifest, arrays = parts(data)
    run = manifest["regions"][1]["executables"][0]
    run["batch"], run["lengths"]["rows"] = 1 << 16, 4096
    refused(rebuilt(manifest, arrays), r"needs \d+ bytes of window IO, at most 536870912 are")


def test_what_follows_the_end_is_refused(data, refused):
    manifest, arrays = parts(data)
    run = manifest["regions"][0]["executables"][0]
    arrays[run["instructions"]] = np.append(arrays[run["instructions"]], np.zeros(32, np.uint8))
    arrays[run["labels"]] = np.append(arrays[run["labels"]], 0)
    refused(rebuilt(manifest, arrays), r"END is instruction \d+ of \d+")


# --- saving
def test_a_link_stays_a_link(regions, data, tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    save(link, TINY, regions, EXPLANATION)
    assert link.is_symlink()
    assert target.read_bytes() == data
    assert sorted(found.name for found in tmp_path.iterdir()) == ["link", "target"]


def test_only_regular_files_are_written(regions, tmp_path):
    (tmp_path / "null").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/null", tmp_path / "null", tmp_path / "pipe", tmp_path):
        with pytest.raises(ProgramError, match="is no regular file"):
            save(path, TINY, regions)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_folder_that_is_not_there(regions, tmp_path):
    with pytest.raises(ProgramError, match=r"cannot be written: No such file or directory$"):
        save(tmp_path / "missing" / "program", TINY, regions)


def test_a_failed_write_leaves_the_old_file(regions, tmp_path, monkeypatch):
    path = tmp_path / "program"
    path.write_bytes(b"old")

    def full(self, data):
        self.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(ProgramError, match="cannot be written: No space left on device"):
        save(path, TINY, regions)
    monkeypatch.undo()
    assert [found.name for found in tmp_path.iterdir()] == ["program"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_modes_are_those_of_the_umask(regions, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        save(tmp_path / "program", TINY, regions)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "program").stat().st_mode) == mode


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    region = made()[1]
    region.name = "two\nlines"
    with pytest.raises(ProgramError, match="must be a text"):
        save(tmp_path / "program", TINY, [region])
    assert not list(tmp_path.iterdir())
