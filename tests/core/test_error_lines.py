"""What the machine refuses is one line: where, what, what to do. Only our own mistakes show a traceback."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from tasks.core.atomic_files import atomic_path
from tasks.core.error_lines import BUG, REFUSALS, line_of, one_line
from tasks.core.errors import SourceError, TableError
from tasks.core.tables import read_json
from tests.imports import ROOT


def said(capsys, error: BaseException) -> str:
    """What a person reads when the program ends with this error."""
    with pytest.raises(SystemExit) as ended, one_line():
        raise error
    assert ended.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("number", REFUSALS)
def test_what_the_machine_refuses_is_one_line_with_the_file_and_what_to_do(number, capsys):
    text = said(capsys, OSError(number, os.strerror(number), "/data/x.parquet"))
    assert text == f"error: /data/x.parquet: {REFUSALS[number]}.\n"


def test_ours_speak_for_themselves_on_one_line(capsys):
    assert said(capsys, SourceError("a.json: broken.\n  Mend it.")) == "error: a.json: broken. Mend it.\n"


def test_what_a_terminal_would_obey_is_written_out(capsys):
    text = said(capsys, SourceError("label '\x1b[2J\u202e\ud800' is none"))
    assert text == "error: label '\\x1b[2J\\u202e\\ud800' is none\n"


@pytest.mark.parametrize("error", [AssertionError("rows"), KeyError("x"), ZeroDivisionError(), RecursionError("deep")])
def test_our_own_mistake_shows_its_traceback_and_asks_for_a_report(error, capsys):
    text = said(capsys, error)
    assert text.startswith("Traceback")
    assert text.endswith(f"error: {BUG}\n")


@pytest.fixture
def hears_ctrl_c():
    """Whoever runs the tests may ignore it: a shell's background job starts deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_a_function_that_c_code_called_is_not_lost(hears_ctrl_c, capsys):
    @ctypes.CFUNCTYPE(None)
    def called_by_c() -> None:
        signal.raise_signal(signal.SIGINT)

    def working() -> None:
        with one_line():
            called_by_c()
            time.sleep(10)

    with pytest.raises(SystemExit) as ended:
        working()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full stands for a full disk")
def test_a_full_disk_that_names_no_file_is_told_with_the_file_that_was_written(tmp_path, capsys):
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(SystemExit),
        one_line(),
        atomic_path(tmp_path / "t.parquet"),
    ):
        full.write(b"x")
    assert capsys.readouterr().err == f"error: {tmp_path / 't.parquet'}: {REFUSALS[errno.ENOSPC]}.\n"
    assert list(tmp_path.iterdir()) == []


def test_too_many_open_files_is_told_with_what_was_opened(tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # below what is open: none more
    try:
        with pytest.raises(SystemExit), one_line():
            (tmp_path / "one more").write_bytes(b"")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert capsys.readouterr().err == f"error: {tmp_path / 'one more'}: {REFUSALS[errno.EMFILE]}.\n"


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space is left"),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>"), "no shared memory"),
        (MemoryError(), "out of memory"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "loads images was killed"),
    ],
)
def test_libraries_that_say_it_in_words_of_their_own_are_understood(error, part, capsys):
    text = said(capsys, error)
    assert part in text
    assert "Traceback" not in text


def test_the_cause_speaks_where_a_library_wraps_it(capsys):
    def wrap() -> None:
        try:
            raise OSError(errno.EROFS, "Read-only file system", "/mnt/x")
        except OSError as error:
            raise ValueError("could not save") from error

    with pytest.raises(SystemExit), one_line():
        wrap()
    assert capsys.readouterr().err == f"error: /mnt/x: {REFUSALS[errno.EROFS]}.\n"


def test_a_document_nested_a_hundred_thousand_deep_is_the_files_fault(tmp_path):
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    with pytest.raises(TableError, match=r"deep\.json: not valid JSON"):
        read_json(deep)
    with pytest.raises(RecursionError) as caught:
        json.loads(deep.read_text())
    assert "nested too deep" in line_of(caught.value)


def test_a_source_file_that_does_not_parse_is_told_with_its_line(tmp_path, capsys):
    loss = tmp_path / "focal.py"
    loss.write_text("import torch\ndef (:\n", encoding="utf-8")
    with pytest.raises(SyntaxError) as broken:
        compile(loss.read_text(encoding="utf-8"), loss, "exec")
    assert said(capsys, broken.value) == (
        f"error: {loss}: line 2 is not valid Python: invalid syntax. Correct it and run the same command again.\n"
    )


def test_ctrl_c_ends_with_130(capsys):
    with pytest.raises(SystemExit) as ended, one_line():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize("program", ["tasks", "flows"])
def test_ctrl_c_while_a_program_imports_is_no_traceback(program, tmp_path):
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-m", program, "--help"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # whoever runs the tests may ignore it
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_a_reader_of_the_output_that_has_gone_is_no_mistake(capsys):
    assert said(capsys, BrokenPipeError()) == ""


def test_both_programs_end_through_this_place():
    import flows.__main__
    import tasks.__main__

    assert tasks.__main__.one_line is flows.__main__.one_line is sys.modules["tasks.core.error_lines"].one_line
