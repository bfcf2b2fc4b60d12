"""A piece on its weights: when it has to be calibrated again, and what it logs."""

import logging

import pytest
import torch

from transept.host.front.backend_options import Options
from transept.host.front.piece import Piece, _compiled_model


def piece(*weights):
    return Piece("graph", Options.of({}), weights)


def written(tensor):
    tensor.add_(1)


def replaced(tensor):
    tensor.data = tensor.data.clone() + 1


def converted(tensor):
    tensor.data = tensor.data.double()


@pytest.mark.parametrize("change", [written, replaced, converted])
@pytest.mark.parametrize("made", [False, True], ids=["no program", "program"])
def test_weights_count_always_and_buffers_once_a_program_is_made_of_them(change, made):
    with torch.no_grad():
        weight, buffer = torch.nn.Parameter(torch.ones(2)), torch.ones(3)
        found = piece(weight, buffer)
        found.program = object() if made else None
        assert found.current
        change(buffer)
        assert found.current is not made
        found = piece(weight, buffer)
        assert found.current
        change(weight)
        assert not found.current


def test_something_is_said_once_whatever_its_numbers(caplog):
    found = piece()
    with caplog.at_level(logging.WARNING, "transept.host.front.dynamo"):
        for message in ("1,024 of 3 lie", "7 of 12.5 lie", "7 of 12.5 stand"):
            found._warn(message)
    assert [record.getMessage() for record in caplog.records] == [
        *("graph: 1,024 of 3 lie", "graph: 7 of 12.5 stand")
    ]


def test_no_model_is_called_outside_of_one():
    assert _compiled_model() is None
