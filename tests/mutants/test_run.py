"""Faults planted in a project in miniature: seen, hung, equivalent or overlooked."""

import json
import time

import pytest
from mutants import watch
from mutants.campaign import Campaign, Records, Results
from mutants.equivalents import Equivalent
from mutants.mutations import MODULE
from mutants.testmap import batches, relevant
from mutants.trial import CAUGHT, EQUIVALENT, SURVIVED
from mutants.workers import Workers
from toy_project import mutant, toy_project

COUNT, CORE = "golden/count.py", "rtl/core.py"
TESTS = "tests/golden/test_count.py::test_"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return toy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def records(project, tmp_path_factory):
    found = Records(tmp_path_factory.mktemp("records"), project)
    wanted = ["elaboration", "tests/golden/test_count.py", "tests/rtl/test_core.py"]
    assert found.missing == wanted
    with Workers(project, 2) as workers:
        assert sorted(found.find(workers)) == wanted
    assert found.missing == []
    return found


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(watch, "FACTOR", 0)
    monkeypatch.setattr(watch, "SLACK", 2)


def verdicts(project, records, path, mutants, known=()):
    results = Results(path, mutants, resume=False)
    with Workers(project, 2) as workers:
        for _ in Campaign(records.map(), list(known), results).run(workers):
            pass
    return [results.verdicts[index] for index in range(len(mutants))]


def judged(project, records, path, file, after, known=()):
    """Status, reason and test of one mutant."""
    (found,) = verdicts(project, records, path, [mutant(project.root, file, after)], known)
    return found.status, found.why, found.test


def test_what_each_test_calls(records):
    tests = {test.name.removeprefix(TESTS): test for test in records.map().tests}
    assert f"{COUNT}::down" in tests["down"].calls
    assert f"{COUNT}::clamp" not in tests["down"].calls
    assert f"{COUNT}::square" in tests["square"].calls, "subprocesses count"
    simulated = tests["tests/rtl/test_core.py::test_simulation"]
    assert simulated.accelerators == {"tiny"}
    assert not any(call.startswith(CORE) for call in simulated.calls), "made by the cache"
    assert f"{CORE}::mask" in records.map().elaboration
    assert set(records.map().texts) == {"tiny", "pynq_z2"}


def test_failing_and_slow_tests_are_left_out(records):
    assert records.failing == [TESTS + "wrong"]
    names = {test.name for test in records.map().tests}
    assert not names & {TESTS + "wrong", TESTS + "slow"}
    assert TESTS + "clamp[3-3]" in names


def test_records_last_until_a_file_changes(project, records, tmp_path):
    again = Records(records._folder, project)
    assert again.missing == []
    assert again.map() == records.map()
    path = project.root / CORE
    text = path.read_text()
    path.write_text(text + "\n")
    changed = Records(records._folder, project)
    path.write_text(text)
    assert changed.missing == ["elaboration", "tests/rtl/test_core.py"]


def test_those_that_call_the_function_come_first(project, records):
    tests = records.map()
    fault = mutant(project.root, COUNT, "return min(n, 0)")
    chosen = [test.name.removeprefix(TESTS) for test in relevant(tests, fault)]
    assert set(chosen[:2]) == {"clamp[-3-0]", "clamp[3-3]"}
    assert set(chosen[2:]) == {"down", "square", "signal"}
    outside = mutant(project.root, COUNT, "STEP = 2")
    assert outside.mutation.scope == MODULE
    assert {test.module for test in relevant(tests, outside)} == {"tests/golden/test_count.py"}
    hardware = mutant(project.root, CORE, "return (1 << width % 64) + 1")
    assert [test.module for test in relevant(tests, hardware)] == ["tests/rtl/test_core.py"]


def test_the_first_process_has_the_cheapest_tests(project, records):
    fault = mutant(project.root, COUNT, "return min(n, 0)")
    cheap, dear = relevant(records.map(), fault)[:2]
    slow = [type(test)(**(vars(test) | {"seconds": 30.0})) for test in (dear, dear, dear)]
    assert [len(batch) for batch in batches([cheap, *slow], fault)] == [1, 1, 2]


def test_a_seen_fault_is_caught(project, records, tmp_path):
    found = judged(project, records, tmp_path / "a", COUNT, "return min(n, 0)")
    assert found == (CAUGHT, "failed", found[2])
    assert found[2].startswith(TESTS + "clamp[")
    found = judged(project, records, tmp_path / "b", COUNT, "return n * n if n < 6 - 0 else n*2")
    assert found[0] == SURVIVED
    found = judged(project, records, tmp_path / "c", COUNT, "return n + n if n < 6 - 0 else n**2")
    assert found == (CAUGHT, "failed", TESTS + "square"), "the subprocess runs the copy"
    found = judged(project, records, tmp_path / "d", COUNT, "STEP = 2")
    assert found == (CAUGHT, "failed", TESTS + "down")


def test_an_overlooked_fault_survives(project, records, tmp_path):
    assert judged(project, records, tmp_path / "a", COUNT, "if n >= 100:")[0] == SURVIVED
    found = judged(project, records, tmp_path / "b", COUNT, "return n - 7")
    assert found[:2] == (SURVIVED, "5 tests"), "no test calls it: the quick ones of its floor do"


def test_a_test_that_hangs_is_stopped(project, records, tmp_path, impatient):
    begun = time.monotonic()
    found = judged(project, records, tmp_path / "a", COUNT, "n += STEP")
    assert found == (CAUGHT, "hung", TESTS + "down")
    assert time.monotonic() - begun < 30


def test_a_build_may_take_longer_than_a_test(project, records, tmp_path, impatient):
    after = "return (1 << width % 65) - 1"
    assert judged(project, records, tmp_path / "a", CORE, "return (2 << width % 64) - 1") == (
        CAUGHT,
        "failed",
        "tests/rtl/test_core.py::test_simulation",
    )
    assert judged(project, records, tmp_path / "b", CORE, after)[0] == EQUIVALENT
    assert not list(project.cache.glob("native/*.v")), "what a fault builds is thrown away"


def test_what_changes_nothing_is_equivalent(project, records, tmp_path):
    found = judged(project, records, tmp_path / "a", COUNT, "return n * n if n < 6 + 0 else n**2")
    assert found == (EQUIVALENT, "the same code", "")
    found = judged(project, records, tmp_path / "b", CORE, "return (1 << width % 65) - 1")
    assert found == (EQUIVALENT, "the same Verilog of tiny, pynq_z2", "")
    known = [Equivalent(COUNT, "return n + 7", "return n - 7", "nobody asks")]
    found = judged(project, records, tmp_path / "c", COUNT, "return n - 7", known)
    assert found == (EQUIVALENT, "nobody asks", "")


def test_a_forgotten_error_is_not_equivalent(project, records, tmp_path):
    found = judged(project, records, tmp_path / "a", CORE, "if width > 33:")
    assert found[0] == SURVIVED


def test_a_module_that_cannot_be_imported_is_seen(project, records, tmp_path):
    found = judged(project, records, tmp_path / "a", COUNT, "LAST = (10, 20)[2]")
    assert found == (CAUGHT, "failed", "tests/golden/test_count.py")


def test_a_process_that_dies_is_seen(project, records, tmp_path):
    found = judged(project, records, tmp_path / "a", COUNT, "return 9 if n >= 3 else 0")
    assert found == (CAUGHT, "died", TESTS + "signal")


def test_results_can_be_continued(project, records, tmp_path):
    path = tmp_path / "results.jsonl"
    after = ("STEP = 2", "LAST = (10, 20)[2]", "n += STEP")
    mutants = [mutant(project.root, COUNT, text) for text in after]
    results = Results(path, mutants[:2], resume=False)
    with Workers(project, 1) as workers:
        first, _ = next(Campaign(records.map(), [], results).run(workers))
    index = mutants.index(first)
    header, line = map(json.loads, path.read_text().splitlines())
    assert header["mutants"] == 2
    assert (line["index"], line["file"], line["status"]) == (index, COUNT, CAUGHT)
    assert (line["before"], line["after"]) == (first.mutation.before, first.mutation.after)
    again = Results(path, mutants[:2], resume=True)
    assert again.missing == [1 - index]
    assert again.verdicts == {index: results.verdicts[index]}
    with pytest.raises(ValueError, match="is of other mutants, or the source has changed since"):
        Results(path, mutants[1:], resume=True)
