"""Tokenizers of folders."""

import re

import pytest

from transept.host.language.tokenizer import folder_tokenizer


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"tokenizer.json": "{"},
        {"tokenizer.json": "{}", "tokenizer_config.json": "{}"},
        {"tokenizer_config.json": '{"tokenizer_class": "NoSuchTokenizer"}'},
    ],
    ids=["none", "broken", "empty", "of another library"],
)
def test_folders_without_a_tokenizer(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))} has no tokenizer: .+$"):
        folder_tokenizer(tmp_path)
