"""Changed files of every reader, in small numbers; and that the harness notices what it is there for."""

from __future__ import annotations

import random

import pytest

from tasks.core.errors import SourceError
from tests.faults import mutants
from tests.faults.targets import TARGETS, TEXT, Target

OF_EACH = 3


@pytest.mark.parametrize("name", TARGETS)
def test_a_changed_file_is_used_or_refused_in_one_line(name, tmp_path):
    target = TARGETS[name](tmp_path)
    before, data = target.read(), target.path.read_bytes()
    for number in range(OF_EACH):
        target.path.unlink()
        target.path.write_bytes(mutants.mutate(data, random.Random(f"{name} {number}"), text=name in TEXT))
        outcome, what = mutants.outcome_of(target, before)
        assert outcome in mutants.GOOD, f"--mutant '{name} {number}': {outcome} {what}"


def test_outcomes_are_separate_distinct(tmp_path):
    def reading(error: Exception | None = None, value: object = "same") -> Target:
        def read() -> object:
            if error:
                raise error
            return value

        return Target(tmp_path, read, sealed=True)

    assert mutants.outcome_of(reading(), "same")[0] == "used"
    assert mutants.outcome_of(reading(value="other"), "same")[0] == "changed silently"
    assert mutants.outcome_of(reading(value=""), "same")[0] == "refused"
    assert mutants.outcome_of(reading(SourceError("a.json: truncated.")), "same")[0] == "refused"
    assert mutants.outcome_of(reading(SourceError("a\nb")), "same")[0] == "several lines"
    assert mutants.outcome_of(reading(KeyError("id")), "same")[0] == "traceback"
