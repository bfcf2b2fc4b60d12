"""Choosing tokens."""

import numpy as np
import pytest

from transept.host.generation.sampling import Sampling, log_softmax

LOGITS = np.log([0.1, 0.4, 0.3, 0.2])


def drawn(count=3000, **fields):
    """Shares of every token."""
    sampling = Sampling(**fields)
    chosen = [sampling.choose(LOGITS, 0, position) for position in range(count)]
    return np.bincount(chosen, minlength=4) / count


def test_the_largest_and_of_equal_ones_the_first():
    assert Sampling().choose(LOGITS, 0, 0) == 1
    assert Sampling().choose(np.array([1.0, 2, 2, 0]), 0, 0) == 1


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"temperature": 1}, [0.1, 0.4, 0.3, 0.2]),
        ({"temperature": 0.5}, [1 / 30, 16 / 30, 9 / 30, 4 / 30]),
        ({"temperature": 5e-324}, [0, 1, 0, 0]),
        ({"temperature": 1, "top_k": 2}, [0, 4 / 7, 3 / 7, 0]),
        ({"temperature": 1, "top_p": 0.65}, [0, 4 / 7, 3 / 7, 0]),
        ({"temperature": 1, "top_p": 0.75}, [0, 4 / 9, 3 / 9, 2 / 9]),
        ({"temperature": 1, "top_k": 1}, [0, 1, 0, 0]),
        ({"temperature": 1, "top_k": 9}, [0.1, 0.4, 0.3, 0.2]),
    ],
)
def test_shares(fields, wanted):
    assert np.allclose(drawn(**fields), wanted, atol=0.03)
    assert not drawn(**fields)[np.array(wanted) == 0].any()


def test_seed_prompt_and_position_decide():
    sampling = Sampling(temperature=1, seed=5)
    chosen = [sampling.choose(LOGITS, prompt, at) for prompt in range(4) for at in range(50)]
    assert chosen == [sampling.choose(LOGITS, p, at) for p in range(4) for at in range(50)]
    other = Sampling(temperature=1, seed=6)
    assert chosen != [other.choose(LOGITS, p, at) for p in range(4) for at in range(50)]
    assert chosen[:50] != chosen[50:100]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": float("nan")}, "temperature nan must be finite and at least 0"),
        ({"temperature": float("inf")}, "temperature inf must be finite"),
        ({"temperature": -1}, "temperature -1 must be"),
        ({"top_k": -1}, "top-k -1 must be at least 0"),
        ({"top_p": 0}, "top-p 0 is outside 0 to 1, or 0"),
        ({"top_p": 1.5}, "top-p 1.5 is outside"),
        ({"top_p": float("nan")}, "top-p nan is outside"),
        ({"seed": -1}, "seed -1 must be at least 0"),
    ],
)
def test_numbers_outside_their_limits(fields, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**fields)


def test_logarithms_of_probabilities():
    assert np.allclose(np.exp(log_softmax(LOGITS + 1e4)), [0.1, 0.4, 0.3, 0.2])
    assert log_softmax(np.array([0.0, -1e9]))[0] == 0
    both = np.array([LOGITS, LOGITS[::-1] - 1e4])
    assert np.allclose(np.exp(log_softmax(both)), [[0.1, 0.4, 0.3, 0.2], [0.2, 0.3, 0.4, 0.1]])


def test_nothing_is_drawn_unless_asked_for():
    assert Sampling() == Sampling(temperature=0, top_k=0, top_p=1, seed=0)
