"""A small program, and its file taken apart, changed, and sealed with a digest that fits."""

import hashlib
import json

import safetensors.numpy
from graphs import mlp, post_norm

from transept.golden.config import TINY
from transept.golden.filters import Window
from transept.host.runtime.file import FORMAT
from transept.host.runtime.region import Region

__all__ = ["ABSENT", "EXPLANATION", "MAGIC", "edited", "made", "parts", "rebuilt", "sealed"]

MAGIC = f"{FORMAT}\n".encode()
#: In place of a field that is to be deleted.
ABSENT = object()
EXPLANATION = {
    "linears_total": 3,
    "linears_on": 2,
    "attention_total": 1,
    "attention_on": 1,
    "macs_share": 0.75,
    "predicted_cycles": 10_000,
    "regions": [{"name": "encoder", "operators": ["norm0"], "macs": 5, "predicted_cycles": 9_000}],
    "fallback": [{"name": "head", "operator": "sin", "macs": 0, "reason": "no pattern"}],
}


def made():
    """An encoder for two shapes, and a chain."""
    encoder = Region("encoder", post_norm(1, 16, 2, [32, 24], Window(20, 3)), TINY)
    for batch, rows in ((2, 9), (1, 16)):
        encoder.executable(encoder.shape(batch, {"rows": rows}))
    chain = Region("chain", mlp(2, [10, 24, 7], bits=8), TINY)
    chain.executable(chain.shape(1, {"rows": 5}))
    return [encoder, chain]


def parts(data):
    """Manifest and arrays of a file."""
    body = data[len(MAGIC) + 32 :]
    length = int.from_bytes(body[:8], "little")
    manifest = json.loads(body[8 : 8 + length])
    arrays = {k: v.copy() for k, v in safetensors.numpy.load(body[8 + length :]).items()}
    return manifest, arrays


def sealed(text, container, length=None):
    """A file with a digest that fits."""
    body = (len(text) if length is None else length).to_bytes(8, "little") + text + container
    return MAGIC + hashlib.sha256(body).digest() + body


def rebuilt(manifest, arrays):
    return sealed(json.dumps(manifest).encode(), safetensors.numpy.save(arrays))


def edited(data, path, value):
    """The file with another value at a path of the manifest, or with what ``value`` makes of the
    array that is named there."""
    manifest, arrays = parts(data)
    *way, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place = manifest
    for part in way:
        place = place[part]
    if value is ABSENT:
        del place[last]
    elif callable(value):
        name = place[last]
        arrays["edited"] = value(arrays[name])
        place[last] = "edited"
        if name not in json.dumps(manifest).split('"'):
            del arrays[name]
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return rebuilt(manifest, arrays)
