"""Texts for calibration and for evaluation are made alike every time, and never meet."""

import hashlib
import pydoc_data.topics

import pytest

from transept.host.texts import calibration_texts, degenerate_texts, passages, read_passages

#: SHA-256 of texts with zeros between them.
DEGENERATE = "6795226cba4ddf2d6ae7edb67f4b14beb89e981e94070089bb07430751371943"

CALIBRATION = "0b05ae525cc3f7ebe9d576da6e2e831ed4eeda504bb5d7b3de3e8f61a7cd407a"


def test_degenerate_texts_are_many_and_always_the_same():
    found = degenerate_texts()
    assert len(set(found)) == len(found) == 67
    assert "=" * 126 in found
    assert "" in found
    assert hashlib.sha256("\0".join(found).encode()).hexdigest() == DEGENERATE


def test_no_text_is_both_calibration_and_evaluation():
    calibration = set(calibration_texts())
    assert not calibration & {*degenerate_texts(), *passages(200)}


def words(count, of="w"):
    return " ".join([of] * count)


@pytest.fixture
def topics(monkeypatch):
    """Ten passages, one of them twice, and what is too short."""
    found = {
        f"{n}": f"{words(12, f'a{n}')}\n  {words(13, f'b{n}')}\n \n{words(24)}" for n in "abcd"
    }
    found["e"] = "\n\n".join(words(25 + n) for n in range(6))
    monkeypatch.setattr(pydoc_data.topics, "topics", found | {"f": found["a"]})
    return [f"{words(12, f'a{n}')} {words(13, f'b{n}')}" for n in "abcd"] + [
        words(25 + n) for n in range(6)
    ]


def test_passages_are_paragraphs_of_25_words(topics):
    assert passages() == topics
    assert passages(3) == topics[::3][:3]
    assert passages(4) == topics[::2][:4]
    assert passages(100) == topics


def test_calibration_texts_are_the_same_on_every_machine():
    """Other texts make other bits of every model that is calibrated on them."""
    found = calibration_texts()
    assert len(set(found)) == len(found) == 52
    assert all(30 <= len(text.split()) <= 130 for text in found)
    assert hashlib.sha256("\0".join(found).encode()).hexdigest() == CALIBRATION


def test_a_passage_is_a_line_of_a_file(tmp_path):
    path = tmp_path / "passages"
    with pytest.raises(ValueError, match=f"no file {path}"):
        read_passages(path)
    path.write_text("\n  \n")
    with pytest.raises(ValueError, match=f"{path} holds no passage"):
        read_passages(path)
    path.write_text("one two\n\n  three \n")
    assert read_passages(path) == ["one two", "three"]
