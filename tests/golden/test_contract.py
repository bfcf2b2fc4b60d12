"""The contract, pinned by value.

Golden models and RTL share the tables, the formats and the register map, so no comparison between
the two can see them change. Whoever changes one raises CONTRACT_VERSION and pins what is new.
"""

import dataclasses
import enum
import hashlib
import json

import numpy as np
import pytest

from transept.golden import isa, layouts, registers
from transept.golden.config import CONTRACT_VERSION, PYNQ_Z2, TINY
from transept.golden.numerics import tables
from transept.golden.numerics.polynomial import reciprocal, rsqrt
from transept.golden.numerics.softmax import DITHER, exponential, levels

EXP2 = (
    (130048, -1438780, 114682),
    (109354, -1209565, 96372),
    (91956, -1017165, 81093),
    (77325, -855465, 68334),
)
RECIPROCAL = (
    (65536, -131004, 3911),
    (63550, -123188, 3571),
    (61681, -116051, 3269),
    (59919, -109518, 3001),
    (58254, -103520, 2761),
    (56680, -98002, 2546),
    (55188, -92914, 2352),
    (53773, -88212, 2178),
    (52429, -83858, 2021),
    (51150, -79818, 1878),
    (49932, -76064, 1749),
    (48771, -72568, 1631),
    (47663, -69308, 1523),
    (46603, -66263, 1425),
    (45590, -63414, 1335),
    (44620, -60745, 1253),
    (43691, -58240, 1177),
    (42799, -55888, 1107),
    (41943, -53675, 1042),
    (41121, -51592, 983),
    (40330, -49627, 928),
    (39569, -47772, 877),
    (38836, -46019, 829),
    (38130, -44361, 785),
    (37449, -42792, 744),
    (36792, -41304, 706),
    (36158, -39892, 670),
    (35545, -38551, 637),
    (34953, -37277, 606),
    (34380, -36065, 577),
    (33825, -34911, 550),
    (33288, -33812, 524),
)
RSQRT = (
    (65536, -130907, 5694),
    (63579, -119545, 4915),
    (61788, -109735, 4277),
    (60140, -101197, 3749),
    (58617, -93711, 3308),
    (57204, -87104, 2937),
    (55889, -81238, 2621),
    (54661, -76002, 2351),
    (53510, -71306, 2118),
    (52429, -67073, 1917),
    (51411, -63244, 1741),
    (50450, -59765, 1587),
    (49541, -56594, 1451),
    (48679, -53693, 1331),
    (47861, -51032, 1225),
    (47082, -48584, 1130),
    (46341, -92565, 4026),
    (44957, -84531, 3475),
    (43691, -77594, 3024),
    (42525, -71557, 2651),
    (41449, -66264, 2339),
    (40450, -61592, 2077),
    (39520, -57444, 1853),
    (38651, -53742, 1662),
    (37837, -50421, 1498),
    (37073, -47428, 1355),
    (36353, -44720, 1231),
    (35673, -42260, 1122),
    (35030, -40018, 1026),
    (34421, -37967, 941),
    (33843, -36085, 866),
    (33292, -34354, 799),
)


#: What a version of the contract is made of: a hash of each part.
PINNED = {
    2: {
        "instructions": "9c002cf1097c22ac",
        "records": "3dc7bccb791d70ce",
        "registers": "758596af0d8b2c9f",
        "tables": "24c4348b77ad089c",
    },
    3: {
        "instructions": "9c002cf1097c22ac",
        "limits": "c9c5dda133ccc61e",
        "presets": "10c8ebb4237e7771",
        "records": "3dc7bccb791d70ce",
        "registers": "758596af0d8b2c9f",
        "tables": "bde973e145af73da",
    },
    4: {
        "instructions": "1e7aea36a7a37acf",
        "limits": "c9c5dda133ccc61e",
        "presets": "bc72d411622402f6",
        "records": "3dc7bccb791d70ce",
        "registers": "28058e4b3d52921a",
        "tables": "bde973e145af73da",
    },
    5: {
        "instructions": "5aece12225213b62",
        "limits": "c9c5dda133ccc61e",
        "presets": "877f2537bc7c6ab8",
        "records": "3dc7bccb791d70ce",
        "registers": "82b3164c0e689c8b",
        "tables": "bde973e145af73da",
    },
}


def plain(value):
    """Tables of dataclasses and enumerations as what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, type) and issubclass(value, enum.Enum):
        return {member.name: member.value for member in value}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value


def parts():
    """Everything that two machines must agree on, without its prose."""
    records = ("CHANNEL", "NORM", "SEGMENT", "HEADER")
    facts = {
        "instructions": [isa.HEADER, isa.FORMATS, isa.Engine],
        "limits": [isa.TOKEN_LIMIT, isa.INSTRUCTION_BYTES],
        "presets": {config.name: config.digest for config in (TINY, PYNQ_Z2)},
        "records": {name: getattr(layouts, f"{name}_RECORD") for name in records},
        "registers": [
            [dataclasses.replace(register, constant=None) for register in registers.table(TINY)],
            registers.ErrorCode,
            registers.Feature,
        ],
        "tables": [tables.EXP2, tables.RECIPROCAL, tables.RSQRT, DITHER],
    }
    return {name: without_prose(plain(value)) for name, value in facts.items()}


def without_prose(value):
    if isinstance(value, dict):
        return {key: without_prose(item) for key, item in value.items() if key != "doc"}
    return [without_prose(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", PINNED[CONTRACT_VERSION])
def test_a_change_of_the_contract_raises_its_version(name):
    found = hashlib.sha256(json.dumps(parts()[name], sort_keys=True).encode()).hexdigest()[:16]
    pinned = PINNED.get(CONTRACT_VERSION, {}).get(name)
    assert found == pinned, f"{name} changed: raise CONTRACT_VERSION and pin {found}"


def test_the_version_names_the_hardware(monkeypatch):
    digest = TINY.digest
    monkeypatch.setattr("transept.golden.config.CONTRACT_VERSION", CONTRACT_VERSION + 1)
    assert TINY.digest != digest


@pytest.mark.parametrize("name", ["EXP2", "RECIPROCAL", "RSQRT"])
def test_coefficients(name):
    assert getattr(tables, name) == globals()[name]


def test_vectors_of_the_exponential():
    distance = np.array([0, 1, 59, 63, 64, 127, 128, 200, 255, 256, 429, 1000, 2047, 2304])
    zero = np.zeros_like(distance)
    assert exponential(-distance, zero)[0].tolist() == [
        *(130048, 129697, 110846, 109655, 109354, 92209, 91956),
        *(75671, 65202, 130048, 81408, 69388, 65202, 130048),
    ]
    expected = [254, 254, 217, 214, 213, 180, 180, 148, 127, 127, 80, 17, 1, 1]
    assert levels(-distance, zero).tolist() == expected


def test_vectors_of_the_reciprocal():
    n = np.array([0, 1, 2, 3, 255, 256, 1000, 4097, 32767, 65535, (1 << 24) - 1])
    mantissa, exponent = reciprocal(n)
    assert mantissa.tolist() == [
        *(0, 65536, 65536, 43691, 32896, 65536),
        *(33554, 65520, 32769, 32768, 32768),
    ]
    assert exponent.tolist() == [0, 0, 1, 1, 7, 8, 9, 12, 14, 15, 23]


def test_vectors_of_the_reciprocal_square_root():
    v = np.array([1, 2, 3, 5, 100, 4095, 65536, 10**9, 10**15, (1 << 62) - 1])
    mantissa, exponent = rsqrt(v)
    assert mantissa.tolist() == [
        *(65536, 46341, 37837, 58617, 52429),
        *(32772, 65536, 33955, 34769, 32768),
    ]
    assert exponent.tolist() == [0, 0, 0, 1, 3, 5, 8, 14, 24, 30]
