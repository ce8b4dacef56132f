"""The journal: whole or absent, appended by many, read line by line, and honest about who still lives."""

from __future__ import annotations

import json
import os
import threading

import psutil
import pytest

from tasks.tracking.journal import Journal, is_alive, names_dvc, open_journals


@pytest.fixture
def journal(tmp_path) -> Journal:
    journal = Journal(tmp_path / "journal" / "one")
    started = psutil.Process().create_time()
    journal.start(kind="stage", name="a", pid=os.getpid(), pid_started=started, pipeline=None)
    return journal


def test_a_journal_is_created_once_and_the_loser_leaves_nothing_behind(journal):
    with pytest.raises(FileExistsError):
        journal.start(kind="stage", name="b")
    assert journal.header()["name"] == "a"
    assert [f.name for f in journal.folder.parent.iterdir()] == ["one"]


def test_a_line_that_is_still_being_written_is_left_for_later(journal):
    journal.write("tags", values={"a": "1"})
    with open(journal.folder / "events.jsonl", "a") as file:
        file.write('{"op": "tags", "val')
        file.flush()
        events, offset = journal.events()
        assert [e["values"] for e in events] == [{"a": "1"}]
        file.write('ues": {"b": "2"}}\n')
    events, _ = journal.events(offset)
    assert [e["values"] for e in events] == [{"b": "2"}]


def test_threads_do_not_tear_each_others_lines(journal):
    def write(number: int) -> None:
        for step in range(200):
            journal.write("metrics", values={f"m{number}": 1.0}, step=step)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events, _ = journal.events()
    assert len(events) == 800


def test_pipelines_come_before_their_stages(journal, tmp_path):
    Journal(tmp_path / "journal" / "later").start(kind="pipeline", name="p")
    assert [j.name for j in open_journals(tmp_path)] == ["later", "one"]
    journal.remove()
    assert [j.name for j in open_journals(tmp_path)] == ["later"]


def test_a_pid_that_something_else_has_now_is_not_the_writer(journal):
    header = journal.header()
    assert is_alive(header)
    assert not is_alive({**header, "pid_started": header["pid_started"] - 60})
    assert not is_alive({**header, "pid": 2**22 + 1})


@pytest.mark.parametrize(
    ("command", "is_dvc"),
    [
        ("python -m dvc repro a", True),
        ("/venv/bin/python /venv/bin/dvc repro", True),
        ("dvc repro", True),
        ("python -m tasks finetune", False),
        ("bash -c dvc repro", False),  # the shell around it; DVC itself is its child
        ("vim dvc.yaml", False),
        ("", False),
    ],
)
def test_dvc_is_known_by_its_command_line(command, is_dvc):
    assert names_dvc(command.split()) is is_dvc


def test_floats_that_json_does_not_know_survive(journal):
    journal.write("metrics", values={"loss": float("nan"), "best": float("inf")}, step=0)
    events, _ = journal.events()
    assert json.dumps(events[0]["values"]) == '{"loss": NaN, "best": Infinity}'
