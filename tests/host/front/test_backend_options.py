"""Options of the backend: defaults, names, and what makes two of them equal."""

import pytest
import torch

from transept.golden.config import PYNQ_Z2, TINY
from transept.golden.filters import Window
from transept.host.front.backend_options import Given, Options
from transept.host.front.errors import ExportError

X = torch.ones(2, 3)


def test_defaults():
    found = Options.of({})
    assert (found.device, found.config, found.calibration) == ("cpu", PYNQ_Z2, 1)
    assert (found.key_filter, found.device_options) == (None, ())


def test_values_and_their_names():
    given = {
        "device": "emulator",
        "config": "tiny",
        "calibration": 3,
        "key_filter": "window:2,1",
        "dram_bytes": 1 << 22,
    }
    found = Options.of(dict(given))
    assert found == Options("emulator", TINY, 3, Window(2, 1), (("dram_bytes", 1 << 22),))
    assert found == Options.of(given | {"config": TINY, "key_filter": Window(2, 1)})
    assert hash(found) == hash(Options.of(given))
    for name, value in (("device", "cpu"), ("config", PYNQ_Z2), ("calibration", 2)):
        other = {k: v for k, v in given.items() if k != "dram_bytes"} | {name: value}
        assert Options.of(other) != found


def test_options_of_the_device_are_in_the_order_of_their_names():
    wanted = ("device", "auto"), ("b", 2), ("a", 1)
    assert Options.of(dict(wanted)).device_options == (("a", 1), ("b", 2))  # checked when it runs


def test_inputs_that_are_given_stay_the_same_object():
    """torch compares options by value, and tensors have no truth."""
    options = {"calibration": [X, (X,), {"x": X}]}
    found = Options.of(options)
    assert isinstance(found.calibration, Given)
    assert options["calibration"] is found.calibration
    assert Options.of(options).calibration is found.calibration
    assert found.calibration != Options.of({"calibration": [X, (X,), {"x": X}]}).calibration
    kinds = [(len(one.args), list(one.kwargs)) for one in found.calibration.arguments()]
    assert kinds == [(1, []), (1, []), (0, ["x"])]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"colour": 1},
            *(
                ValueError,
                "'colour'.*; options of the backend are device, config, calibration, key",
            ),
        ),
        ({"device": "fpga"}, ValueError, "no device 'fpga'.*key_filter and those of the device$"),
        ({"config": 1}, ValueError, "^config is a int, not a name or a Config$"),
        ({"key_filter": 1}, ValueError, "^key_filter is a int, not a name or a KeyFilter$"),
        ({"calibration": 0}, ValueError, "^calibration 0 must be at least 1 call$"),
        ({"calibration": True}, ValueError, "^calibration is a bool, not a number of calls or a l"),
        ({"calibration": X}, ValueError, "^calibration is a Tensor, not a number of calls or a li"),
        ({"calibration": ()}, ValueError, "^calibration is an empty list, it needs at least one"),
        ({"calibration": [X, "text"]}, ExportError, "not str$"),
    ],
)
def test_a_wrong_value_is_named(options, error, message):
    with pytest.raises(error, match=message):
        Options.of(options)
