"""Byte layouts of constants in DRAM: requantiser and norm parameters, tables, weight tiles.

All integers are little-endian. Arrays of bytes are one-dimensional uint8, a whole number of words
(``tile`` bytes), ready for a DRAM window; channels are padded with zero bytes to whole tiles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from transept.golden.numerics.fixed import wrap
from transept.golden.numerics.four_bit import GROUP, MINIMUM_BITS, FourBitWeights
from transept.golden.numerics.norm import NormParameters
from transept.golden.numerics.requantise import SEGMENTS, ActivationTable, ChannelParameters

__all__ = [
    "BLOCK_WORDS",
    "CHANNEL_RECORD",
    "HEADER_RECORD",
    "NORM_RECORD",
    "PACKED_BLOCK",
    "RECORD_BYTES",
    "SEGMENT_RECORD",
    "TABLE_BYTES",
    "RecordField",
    "pack_channel_parameters",
    "pack_four_bit",
    "pack_linear",
    "pack_norm_parameters",
    "pack_table",
    "pack_weights",
    "packed_words",
    "table_words",
    "unpack_channel_parameters",
    "unpack_four_bit",
    "unpack_norm_parameters",
    "unpack_table",
    "unpack_weights",
]

#: Bytes of one channel's parameters or one table segment; a tile of channels is as many words.
RECORD_BYTES = 8
#: 64 segments and the header.
TABLE_BYTES = (SEGMENTS + 1) * RECORD_BYTES


class RecordField(NamedTuple):
    """One value in an 8-byte record: its lowest bit, the bits it takes, and its limits."""

    low: int
    bits: int
    least: int
    greatest: int

    @property
    def signed(self) -> bool:
        """Whether it is negative at times."""
        return self.least < 0

    @property
    def width(self) -> int:
        """Bits that count; those above them in the record repeat the sign."""
        return (self.greatest - self.least).bit_length()


def _signed(low: int, bits: int, width: int | None = None) -> RecordField:
    limit = 1 << ((width or bits) - 1)
    return RecordField(low, bits, -limit, limit - 1)


def _unsigned(low: int, bits: int, width: int | None = None) -> RecordField:
    return RecordField(low, bits, 0, (1 << (width or bits)) - 1)


#: Requantiser parameters of one channel.
CHANNEL_RECORD = {
    "multiplier": _unsigned(0, 16),
    "shift": _unsigned(16, 8, 5),
    "bias": _signed(24, 24),
}
#: Norm parameters of one channel.
NORM_RECORD = {
    "gamma": _signed(0, 24, 18),
    "beta": _signed(24, 24),
    "y_shift": _unsigned(48, 4),
    "sum_shift": _unsigned(52, 4),
    "x_shift": _unsigned(56, 8, 4),
}
#: One segment of an activation table, and its header.
SEGMENT_RECORD = {"c2": _signed(0, 16), "c1": _signed(16, 24), "c0": _signed(40, 24)}
HEADER_RECORD = {
    "start": _signed(0, 16),
    "width": _unsigned(16, 8, 4),
    "slope_shift": _unsigned(24, 8, 5),
    "out_shift": _unsigned(32, 8, 5),
}

_Record = dict[str, RecordField]


def _pack(layout: _Record, source: object, count: int) -> np.ndarray:
    """Records uint8[count, 8] of the attributes of ``source`` that ``layout`` names."""
    records = np.zeros(count, np.int64)
    for name, field in layout.items():
        values = np.broadcast_to(np.asarray(getattr(source, name), np.int64), (count,))
        low, high = field.least, field.greatest
        if count and not (low <= values.min() and values.max() <= high):
            raise ValueError(f"{name} {values.min()} to {values.max()} is outside {low} to {high}")
        records |= (values & ((1 << field.bits) - 1)) << field.low
    return records.astype("<i8").view(np.uint8).reshape(count, RECORD_BYTES)


def _unpack(layout: _Record, data: np.ndarray) -> dict[str, np.ndarray]:
    """Every field of 8-byte records, int64[count]; bits that do not count are ignored."""
    records = np.ascontiguousarray(data).ravel().view("<i8")
    fields = {}
    for name, field in layout.items():
        if field.signed:  # shifted up to the sign bit and down again
            fields[name] = records << (64 - field.low - field.width) >> (64 - field.width)
        else:
            fields[name] = (records >> field.low) & ((1 << field.width) - 1)
    return fields


def _pad(count: int, tile: int) -> int:
    return -(-count // tile) * tile


def pack_channel_parameters(parameters: ChannelParameters, tile: int) -> np.ndarray:
    """Bytes of the requantiser's parameters, ``8 * tile`` for each n tile.

    A channel is 8 bytes: multiplier uint16 @0, shift uint8 @2 (5 bits), bias int24 @3, zero uint16
    @6. Channel c of a tile is bytes 8c to 8c + 7 of its 8 consecutive STAT words.

    Raises
    ------
    ValueError
        If a value does not fit its field.
    """
    count = len(parameters.multiplier)
    records = np.zeros((_pad(count, tile), RECORD_BYTES), np.uint8)
    records[:count] = _pack(CHANNEL_RECORD, parameters, count)
    return records.ravel()


def unpack_channel_parameters(data: np.ndarray) -> ChannelParameters:
    """The inverse of ``pack_channel_parameters``, padding channels included."""
    return ChannelParameters(**_unpack(CHANNEL_RECORD, data))


def pack_norm_parameters(parameters: NormParameters, tile: int) -> np.ndarray:
    """Bytes of the parameters of a norm, ``8 * tile`` for each word of a row.

    A channel is 8 bytes: gamma int24 @0 (an 18-bit value), beta int24 @3, y_shift @6 in the lower
    four bits and sum_shift in the upper ones, x_shift uint8 @7 (each 0 to 15).

    Raises
    ------
    ValueError
        If a value does not fit its field.
    """
    count = len(parameters.gamma)
    records = np.zeros((_pad(count, tile), RECORD_BYTES), np.uint8)
    records[:count] = _pack(NORM_RECORD, parameters, count)
    return records.ravel()


def unpack_norm_parameters(data: np.ndarray) -> NormParameters:
    """The inverse of ``pack_norm_parameters``, padding channels included."""
    return NormParameters(**_unpack(NORM_RECORD, data))


def table_words(tile: int) -> int:
    """Words of ``tile`` bytes of an activation table: the ``words`` of its LOAD."""
    return -(-TABLE_BYTES // tile)


def pack_table(table: ActivationTable, tile: int) -> np.ndarray:
    """Bytes of an activation table, ``tile * table_words(tile)``.

    64 segments of 8 bytes: c2 int16 @0, c1 int24 @2, c0 int24 @5; then a header of 8 bytes: start
    int16 @0, width uint8 @2, slope_shift uint8 @3, out_shift uint8 @4, zero @5; then zero bytes.

    Raises
    ------
    ValueError
        If a value does not fit its field.
    """
    data = np.zeros(tile * table_words(tile), np.uint8)
    data[: SEGMENTS * RECORD_BYTES] = _pack(SEGMENT_RECORD, table, SEGMENTS).ravel()
    data[SEGMENTS * RECORD_BYTES : TABLE_BYTES] = _pack(HEADER_RECORD, table, 1).ravel()
    return data


def unpack_table(data: np.ndarray) -> ActivationTable:
    """The inverse of ``pack_table``."""
    segments, header = np.split(data[:TABLE_BYTES], [SEGMENTS * RECORD_BYTES])
    facts: dict[str, Any] = _unpack(SEGMENT_RECORD, segments)
    facts |= {name: int(value[0]) for name, value in _unpack(HEADER_RECORD, header).items()}
    return ActivationTable(**facts)


def pack_weights(weights: np.ndarray, tile: int) -> np.ndarray:
    """Stationary tile order ``[n tile][k tile][k in tile][n in tile]`` of int8[k, n], as bytes.

    In words: b_row = 1, b_k = tile, b_n = tile * k_tiles. Edge tiles are padded with zeros.

    Raises
    ------
    ValueError
        If a weight is outside -127 to 127.
    """
    if weights.size and not (weights.min() >= -127 and weights.max() <= 127):
        raise ValueError(f"weights {weights.min()} to {weights.max()} are outside -127 to 127")
    k, n = weights.shape
    padded = np.zeros((_pad(k, tile), _pad(n, tile)), np.int8)
    padded[:k, :n] = weights
    tiles = padded.reshape(padded.shape[0] // tile, tile, padded.shape[1] // tile, tile)
    return np.ascontiguousarray(tiles.transpose(2, 0, 1, 3)).view(np.uint8).ravel()


def unpack_weights(data: np.ndarray, k: int, n: int, tile: int) -> np.ndarray:
    """The int8[k, n] matrix of ``pack_weights``, without padding."""
    tiles = np.ascontiguousarray(data).view(np.int8)
    tiles = tiles.reshape(_pad(n, tile) // tile, _pad(k, tile) // tile, tile, tile)
    return tiles.transpose(1, 2, 0, 3).reshape(_pad(k, tile), _pad(n, tile))[:k, :n]


#: Words of STAT that one block of four-bit weights becomes, and its words in DRAM: three of scales
#: and minima, and the codes, two to a byte.
BLOCK_WORDS, PACKED_BLOCK = GROUP, 3 + GROUP // 2


def packed_words(words: Any) -> Any:
    """Words in DRAM of ``words`` words of STAT, with operand ``packed`` of LOAD: whole blocks of 32
    become 19, what is left stays. An integer or an array."""
    return words - (BLOCK_WORDS - PACKED_BLOCK) * (words // BLOCK_WORDS)


def pack_four_bit(weights: FourBitWeights, tile: int) -> np.ndarray:
    """Bytes of four-bit weights int8[n, k]: ``[n tile][group of 32 along k]`` blocks of 19 words.

    A block is three words with a byte for each of its ``tile`` outputs n: the low byte of the
    scale, that of the minimum, and both high halves (the scale's in the lower four bits); then 16
    words of codes. In the stationary scratchpad it is ``32 / tile`` tiles along k, whose words are
    outputs (``b_transposed``): word n of tile t has inputs ``t * tile`` and up. Two such words are
    one of codes, the first of them in the lower four bits of its bytes; in the order of t, n by n.
    Outputs are padded with zeros to a whole tile.
    """
    n, k = weights.codes.shape
    groups, n_tiles = k // GROUP, -(-n // tile)
    scale, minimum, codes = (
        np.pad(part.astype(np.int64), ((0, n_tiles * tile - n), (0, 0)))
        for part in (weights.scale, weights.minimum & 0xFFF, weights.codes)
    )
    planes = np.stack([scale & 0xFF, minimum & 0xFF, scale >> 8 | minimum >> 8 << 4])
    planes = planes.reshape(3, n_tiles, tile, groups).transpose(1, 3, 0, 2)
    pairs = codes.reshape(n_tiles, tile, groups, GROUP).transpose(0, 2, 1, 3)
    pairs = pairs.reshape(n_tiles, groups, GROUP // 2, 2, tile)
    words = np.concatenate([planes, pairs[..., 0, :] | pairs[..., 1, :] << 4], axis=2)
    return words.astype(np.uint8).ravel()


def unpack_four_bit(data: np.ndarray, tile: int) -> np.ndarray:
    """Words int8[blocks * 32, tile] of the stationary scratchpad of some blocks of
    ``pack_four_bit``."""
    blocks = np.ascontiguousarray(data).view(np.uint8).reshape(-1, PACKED_BLOCK, tile)
    low, minimum, high = blocks[:, :3].transpose(1, 0, 2).astype(np.int64)
    pairs = blocks[:, 3:]
    codes = np.stack([pairs & 0xF, pairs >> 4], 2).reshape(-1, GROUP)
    found = FourBitWeights(
        codes,
        (low | (high & 0xF) << 8).reshape(-1, 1).astype(np.uint16),
        wrap(minimum | high >> 4 << 8, MINIMUM_BITS).reshape(-1, 1).astype(np.int16),
    ).unpack()
    tiles = found.reshape(len(blocks), tile, GROUP // tile, tile)  # block, n, tile along k, input
    return tiles.transpose(0, 2, 1, 3).reshape(-1, tile)


def pack_linear(
    weights: np.ndarray, parameters: ChannelParameters, tile: int, chunk: int = 1
) -> np.ndarray:
    """A linear layer cut into chunks of ``chunk`` n tiles, each one contiguous LOAD into STAT.

    A chunk is its weight tiles (``chunk * k_tiles * tile`` words), then its channel parameters
    (``chunk * 8`` words), so that ``param = b_addr + chunk * k_tiles * tile``. The last chunk is
    shorter if ``chunk`` does not divide the n tiles.

    Raises
    ------
    ValueError
        If a weight or a parameter does not fit.
    """
    columns = chunk * tile
    parts = []
    for n in range(0, weights.shape[1], columns):
        channels = ChannelParameters(
            *(np.asarray(getattr(parameters, name))[n : n + columns] for name in CHANNEL_RECORD)
        )
        parts.append(pack_weights(weights[:, n : n + columns], tile))
        parts.append(pack_channel_parameters(channels, tile))
    return np.concatenate(parts)
