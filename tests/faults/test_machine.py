"""Every fault of the machine, each upon a stage that is cheap."""

from __future__ import annotations

import pytest

from tests.faults import machine

SLOW = ("MLflow server",)
"""Only in the long form: MLflow's client waits."""


def test_a_stage_works_under_a_fault_or_says_so_in_one_line_and_all_is_well_when_it_is_lifted(ran):
    jobs, wanted = ran
    names = [name for name in machine.faults() if not name.startswith(SLOW)]
    assert len(names) >= 12
    results = [result for name in names for result in machine.try_all(jobs, wanted, name) if result.name == name]
    assert [(r.name, r.ends, r.line, r.after) for r in results if not r.good] == []
    assert len(results) == len(names)


def test_the_table_of_faults_says_which_failed(capsys):
    good = machine.Result("one", "works", 0.1, "", [], True)
    assert machine.show(iter([good, machine.Result("two", "signal 9", 0.1, "killed", ["x is left over"], False)])) == 1
    assert "FAILED killed" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["works", "one line"])
def test_faults_are_expected_to_end_in_a_stated_way(kind, ran):
    assert any(fault.expected == kind for fault in machine.faults().values())
