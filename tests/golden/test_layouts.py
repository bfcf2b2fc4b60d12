"""Byte layouts: roundtrips, single bytes where the hardware expects them, limits."""

import numpy as np
import pytest

from transept.golden import layouts
from transept.golden.numerics.norm import NormParameters
from transept.golden.numerics.requantise import SEGMENTS, ActivationTable, ChannelParameters

TILES = (4, 16)


def _equal(ours: object, theirs: object, count: int) -> None:
    for name in ours.__dataclass_fields__:
        first, second = getattr(ours, name), getattr(theirs, name)
        if isinstance(first, np.ndarray):
            assert (first == second[:count]).all()
            assert (second[count:] == 0).all()
        else:
            assert first == second


def _channels(rng: np.random.Generator, count: int) -> ChannelParameters:
    return ChannelParameters(
        rng.integers(0, 1 << 16, count),
        rng.integers(0, 32, count),
        rng.integers(-(1 << 23), 1 << 23, count),
    )


def _table(rng: np.random.Generator) -> ActivationTable:
    return ActivationTable(
        -12345,
        10,
        17,
        13,
        rng.integers(-(1 << 23), 1 << 23, SEGMENTS),
        rng.integers(-(1 << 23), 1 << 23, SEGMENTS),
        rng.integers(-(1 << 15), 1 << 15, SEGMENTS),
    )


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("count", [1, 4, 13, 32])
def test_channel_roundtrip(tile, count):
    parameters = _channels(np.random.default_rng(0), count)
    data = layouts.pack_channel_parameters(parameters, tile)
    assert data.size == -(-count // tile) * 8 * tile
    _equal(parameters, layouts.unpack_channel_parameters(data), count)


@pytest.mark.parametrize("tile", TILES)
def test_norm_roundtrip(tile):
    rng = np.random.default_rng(1)
    parameters = NormParameters(
        rng.integers(-(1 << 17), 1 << 17, 21),
        rng.integers(-(1 << 23), 1 << 23, 21),
        *rng.integers(0, 16, (3, 21)),
    )
    _equal(
        parameters,
        layouts.unpack_norm_parameters(layouts.pack_norm_parameters(parameters, tile)),
        21,
    )


@pytest.mark.parametrize("tile", TILES)
def test_table_roundtrip(tile):
    table = _table(np.random.default_rng(2))
    data = layouts.pack_table(table, tile)
    assert data.size == layouts.table_words(tile) * tile >= layouts.TABLE_BYTES == 520
    _equal(table, layouts.unpack_table(data), SEGMENTS)


def test_bytes_of_a_channel():
    parameters = ChannelParameters(np.array([0xABCD]), np.array([17]), np.array([-2]))
    data = layouts.pack_channel_parameters(parameters, 4)
    assert data[:8].tolist() == [0xCD, 0xAB, 17, 0xFE, 0xFF, 0xFF, 0, 0]
    assert not data[8:].any()


def test_bytes_of_a_norm_channel():
    parameters = NormParameters(*(np.array([v]) for v in (-3, 0x123456, 7, 8, 9)))
    data = layouts.pack_norm_parameters(parameters, 4)
    assert data[:8].tolist() == [0xFD, 0xFF, 0xFF, 0x56, 0x34, 0x12, 0x97, 8]


def test_bytes_of_a_table():
    ramp = np.arange(SEGMENTS)
    data = layouts.pack_table(ActivationTable(-2, 9, 8, 7, 3 * ramp, -ramp, 5 * ramp), 4)
    assert data[8:16].tolist() == [5, 0, 0xFF, 0xFF, 0xFF, 3, 0, 0]
    assert data[512:520].tolist() == [0xFE, 0xFF, 9, 8, 7, 0, 0, 0]


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (32, 16), (20, 40)])
def test_weights(tile, shape):
    weights = np.random.default_rng(3).integers(-127, 128, shape).astype(np.int8)
    data = layouts.pack_weights(weights, tile)
    assert (layouts.unpack_weights(data, *shape, tile) == weights).all()
    k_tiles, n_tiles = (-(-size // tile) for size in shape)
    words = data.view(np.int8).reshape(-1, tile)
    assert len(words) == n_tiles * k_tiles * tile
    for k in range(shape[0]):
        for n in range(shape[1]):
            word = n // tile * (k_tiles * tile) + k // tile * tile + k % tile
            assert words[word, n % tile] == weights[k, n]


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_linear_is_chunks_of_weights_and_parameters(chunk):
    rng = np.random.default_rng(4)
    weights, parameters = rng.integers(-127, 128, (6, 18)).astype(np.int8), _channels(rng, 18)
    data = layouts.pack_linear(weights, parameters, 4, chunk)
    k_words = 2 * 4 * 4
    for n in range(0, 18, 4 * chunk):
        columns = min(18 - n, 4 * chunk)
        tiles = -(-columns // 4)
        part, data = np.split(data, [tiles * (k_words + 32)])
        assert (
            layouts.unpack_weights(part[: tiles * k_words], 6, columns, 4)
            == weights[:, n : n + columns]
        ).all()
        back = layouts.unpack_channel_parameters(part[tiles * k_words :])
        assert (back.bias[:columns] == parameters.bias[n : n + columns]).all()
    assert not data.size


def test_a_chunk_is_one_tile_unless_told():
    rng = np.random.default_rng(5)
    weights, parameters = rng.integers(-127, 128, (6, 18)).astype(np.int8), _channels(rng, 18)
    expected = layouts.pack_linear(weights, parameters, 4, 1)
    assert layouts.pack_linear(weights, parameters, 4).tobytes() == expected.tobytes()


LIMITS = {
    "channel": {"multiplier": (0, 65535), "shift": (0, 31), "bias": (-(1 << 23), (1 << 23) - 1)},
    "norm": {
        "gamma": (-(1 << 17), (1 << 17) - 1),
        "beta": (-(1 << 23), (1 << 23) - 1),
        **dict.fromkeys(("y_shift", "sum_shift", "x_shift"), (0, 15)),
    },
    "table": {
        "c2": (-32768, 32767),
        **dict.fromkeys(("c1", "c0"), (-(1 << 23), (1 << 23) - 1)),
        "start": (-32768, 32767),
        "width": (0, 15),
        **dict.fromkeys(("slope_shift", "out_shift"), (0, 31)),
    },
}


def packed_and_back(kind, **changes):
    """Parameters that are all at either limit in turn, but for the changes; as they were and as
    they come back."""
    made = {"channel": ChannelParameters, "norm": NormParameters, "table": ActivationTable}[kind]
    single = ("start", "width", "slope_shift", "out_shift") if kind == "table" else ()
    parameters = made(
        **{
            name: limits[len(name) % 2] if name in single else np.tile(np.array(limits), 32)
            for name, limits in LIMITS[kind].items()
        }
        | changes
    )
    name = kind if kind == "table" else f"{kind}_parameters"
    return parameters, getattr(layouts, f"unpack_{name}")(
        getattr(layouts, f"pack_{name}")(parameters, 4)
    )


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, limits in LIMITS.items() for name in limits]
)
def test_values_at_their_limits_are_packed(kind, name):
    _equal(*packed_and_back(kind), 64)
    single = kind == "table" and name not in ("c0", "c1", "c2")
    least, most = LIMITS[kind][name]
    for value in (least, most):
        _equal(*packed_and_back(kind, **{name: value if single else np.full(64, value)}), 64)
    for value in (least - 1, most + 1):
        wrong = value if single else np.append(np.zeros(63, np.int64), value)
        low, high = (value, value) if single else (min(value, 0), max(value, 0))
        with pytest.raises(
            ValueError, match=f"^{name} {low} to {high} is outside {least} to {most}$"
        ):
            packed_and_back(kind, **{name: wrong})


@pytest.mark.parametrize(
    ("name", "value"), [("multiplier", 1 << 16), ("shift", 32), ("bias", 1 << 23)]
)
def test_channels_that_do_not_fit_are_refused(name, value):
    fields = {"multiplier": np.zeros(3), "shift": np.zeros(3), "bias": np.zeros(3)}
    fields[name] = np.array([0, value, 0])
    with pytest.raises(ValueError, match=f"{name} 0 to {value} is outside"):
        layouts.pack_channel_parameters(ChannelParameters(**fields), 4)


def test_a_norm_channel_that_does_not_fit_is_refused():
    zero = np.zeros(2)
    with pytest.raises(ValueError, match="sum_shift 16 to 16 is outside 0 to 15"):
        layouts.pack_norm_parameters(NormParameters(zero, zero, zero, zero, 16), 4)


@pytest.mark.parametrize("name", ["CHANNEL", "NORM", "SEGMENT", "HEADER"])
def test_fields_of_a_record_do_not_overlap(name):
    taken = 0
    for field in getattr(layouts, f"{name}_RECORD").values():
        mask = ((1 << field.bits) - 1) << field.low
        assert not taken & mask
        assert field.width <= field.bits
        taken |= mask
    assert taken < 1 << 64


def test_the_weight_minus_128_is_refused():
    with pytest.raises(ValueError, match="weights -128 to 3 are outside -127 to 127"):
        layouts.pack_weights(np.array([[3, -128]], np.int8), 4)
    with pytest.raises(ValueError, match="weights -3 to 128 are outside -127 to 127"):
        layouts.pack_weights(np.array([[-3, 128]], np.int16), 4)
    data = layouts.pack_weights(np.array([[127, -127]], np.int8), 4)
    assert data.tolist() == [0x7F, 0x81, *[0] * 14]
