"""Which mutants are drawn, and how the list of equivalents finds its own."""

from collections import Counter
from pathlib import Path

import pytest
from mutants import equivalents
from mutants.draw import draw
from mutants.mutations import mutations
from toy_project import mutant, toy_project

ROOT = Path(__file__).parents[2]


@pytest.fixture
def toy(tmp_path):
    return toy_project(tmp_path).root


def test_the_seed_alone_decides(toy):
    floors = ("golden", "rtl")
    assert draw(toy, floors, 1, 8) == draw(toy, floors, 1, 8)
    assert len({tuple(draw(toy, floors, seed, 8)) for seed in range(10)}) == 10


def test_files_have_mutants_by_their_lines(tmp_path):
    (tmp_path / "golden").mkdir()
    for name, lines in (("a", 30), ("b", 90)):
        dense = "x = 1 + 2 + 3 + 4 + 5 + 6\n" if name == "a" else "x = 1\n"
        (tmp_path / "golden" / f"{name}.py").write_text(dense * lines)
    drawn = draw(tmp_path, ["golden"], 1, 40)
    assert Counter(one.file for one in drawn) == {"golden/a.py": 10, "golden/b.py": 30}
    assert all(-2 <= one.mutation.line - 3 * i % 90 <= 3 for i, one in enumerate(drawn[10:]))


def test_every_mutant_once(toy):
    lines = len({(one.file, one.mutation.line) for one in draw(toy, ["golden"], 1, 9)})
    assert lines == 9
    with pytest.raises(ValueError, match=r"^900 mutants of golden, rtl: there are 1 to \d+$"):
        draw(toy, ["golden", "rtl"], 1, 900)
    with pytest.raises(ValueError, match="0 mutants"):
        draw(toy, ["golden"], 1, 0)


def test_places_are_folders_or_files(toy):
    assert {one.file for one in draw(toy, ["golden/count.py"], 1, 5)} == {"golden/count.py"}
    assert {one.floor for one in draw(toy, ["rtl", "golden/count.py"], 1, 8)} == {"rtl", "golden"}
    with pytest.raises(ValueError, match=r"no golden/fixed\.py in "):
        draw(toy, ["golden/fixed.py"], 1, 5)


def entry(**changes):
    facts = {"file": "golden/count.py", "line": "n -= STEP", "becomes": "n += STEP"}
    text = "".join(f"{name} = {value!r}\n" for name, value in (facts | changes).items())
    return f"[[equivalent]]\n{text}"


def known(path, text):
    path.write_text(text)
    return equivalents.load(path)


def test_equivalents_are_found_by_their_text(toy, tmp_path):
    listed = known(tmp_path / "list.toml", entry(reason="why not"))
    one = mutant(toy, "golden/count.py", "n += STEP")
    assert equivalents.reason(listed, one) == "why not"
    path = toy / "golden" / "count.py"
    path.write_text("\n\n" + path.read_text().replace("n -= STEP", "n  -=  STEP"))
    moved = mutant(toy, "golden/count.py", "n += STEP")
    assert moved.mutation.line == one.mutation.line + 2
    assert equivalents.reason(listed, moved) == "why not"
    assert equivalents.stale(toy, listed) == []
    path.write_text(path.read_text().replace("n  -=  STEP", "n -= 1 * STEP"))
    assert equivalents.reason(listed, mutant(toy, "golden/count.py", "n += 1 * STEP")) is None
    assert equivalents.stale(toy, listed) == listed
    path.unlink()
    assert equivalents.stale(toy, listed) == listed


@pytest.mark.parametrize("text", [entry(), entry(reason=" "), entry(reason="a", kind="b")])
def test_equivalents_have_reasons(tmp_path, text):
    with pytest.raises(
        ValueError, match=r"list\.toml: .* must have file, line, becomes and a reason"
    ):
        known(tmp_path / "list.toml", text)


def test_listed_equivalents_are_faults_of_this_source():
    assert equivalents.stale(ROOT, equivalents.load()) == [], "delete what the source has lost"


def test_every_file_of_this_source_can_have_faults():
    """Commands may do no more than call others, and some files only give names to things."""
    for floor in ("golden", "rtl", "host"):
        for path in (ROOT / floor).rglob("*.py"):
            names_alone = path.name in (
                "__init__.py",
                "errors.py",
                "namespaces.py",
                "nodes.py",
                "scope.py",
            )
            if not names_alone and path.parent != ROOT / "host" / "cli":
                assert mutations(path.read_text()), path
