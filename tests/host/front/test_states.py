"""What a model was: which changes are seen, and which are none."""

import pytest
import torch
from torch import nn

from transept.host.front.states import ModelState, TensorState


def written(tensor, place):
    """Writes to one element, so that torch does not count it."""
    tensor.data[place] += 1


@pytest.mark.parametrize(
    ("size", "element", "seen"),
    [
        (8, 0, True),
        (8, 1, True),
        (8, 7, True),
        (9, 1, False),
        (9, 2, True),
        (9, 8, True),
        (16, 14, True),
        (17, 15, True),
        (800, 100, True),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_up_to_eight_elements_of_a_dimension_are_looked_at(size, element, seen, last):
    tensor = torch.zeros((3, size) if last else (size, 3))
    state = TensorState(tensor)
    written(tensor, (1, element) if last else (element, 1))
    assert state.holds(tensor) is not seen


def test_a_write_that_torch_counts_is_seen_in_every_element():
    tensor = torch.zeros(9)
    state = TensorState(tensor)
    assert state.holds(tensor)
    tensor[1] = 1
    assert not state.holds(tensor)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([1.0, torch.nan, 2.0]),
        torch.zeros(3, 0),
        torch.tensor(3.0),
        torch.zeros(2, device="meta"),
        torch.eye(3).to_sparse(),
    ],
    ids=["not a number", "empty", "one", "meta", "sparse"],
)
def test_every_tensor_holds_until_it_is_another_one(tensor):
    state = TensorState(tensor)
    assert state.holds(tensor)
    assert not state.holds(tensor.clone())


def test_tensors_of_inference_hold_until_they_are_written_to():
    with torch.inference_mode():
        tensor = torch.zeros(3)
        state = TensorState(tensor)
        assert state.holds(tensor)
        tensor[2] = 1
        assert not state.holds(tensor)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda model: None, None),
        (lambda model: model[0].weight.data.add_(1), "0.weight"),
        (lambda model: model[1].running_mean.add_(1), "1.running_mean"),
        (lambda model: model[0].register_parameter("bias", None), "0.bias"),
        (lambda model: model.__setitem__(2, nn.ReLU()), "2"),
        (lambda model: model.__delitem__(2), "2"),
    ],
    ids=["none", "weight", "buffer", "without bias", "another module", "without module"],
)
def test_what_changed_is_named(change, name):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU())
    state = ModelState(model)
    change(model)
    assert state.changed(model) == name
