"""Texts for calibration and for evaluation are made alike every time, and never meet."""

from transept.host.texts import calibration_texts, degenerate_texts, passages


def test_degenerate_texts_are_many_and_always_the_same():
    texts = degenerate_texts()
    assert len(set(texts)) == len(texts) >= 50
    assert texts == degenerate_texts()
    assert "=" * 126 in texts
    assert "" in texts


def test_no_text_is_both_calibration_and_evaluation():
    calibration = set(calibration_texts())
    assert not calibration & {*degenerate_texts(), *passages(200)}
