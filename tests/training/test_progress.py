import io
import math

from tasks.training import progress
from tasks.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_there_are_log_lines_now_and_then(monkeypatch, caplog):
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    with caplog.at_level("INFO"), Progress(4, done=2) as bar:
        bar.advance(1, 8, math.nan)
        bar.advance(1, 8, 0.25)
        bar.say("epoch 1: loss 0.2500")
    assert [record.message.split(",")[0] for record in caplog.records] == [
        "step 3 of 4 (epoch 1)",
        "step 4 of 4 (epoch 1) loss 0.2500",
        "epoch 1: loss 0.2500",
    ]
    assert "images/s" in caplog.text
    assert caplog.messages[1].endswith(" images/s, about 0.0 s left")


def test_the_time_left_is_that_of_the_steps_left_at_the_speed_so_far(monkeypatch, caplog):
    clock = iter([0.0, 0.0, 100.0])  # 2 of 10 steps were done by an earlier process, one step takes 100 s
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with caplog.at_level("INFO"), Progress(10, done=2) as bar:
        bar.advance(0, 8, math.nan)
    assert caplog.messages == ["step 3 of 10 (epoch 0), 0.1 images/s, about 11 min 40 s left"]


def test_after_a_few_steps_the_time_that_is_left_is_said_without_the_first_step(monkeypatch, caplog):
    clock = iter([0, 0, 60, 62, 64, 66, 68, 70])  # made, then a minute to warm up, then 2 s a step
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress, "LOG_EVERY_S", math.inf)
    with caplog.at_level("INFO"), Progress(36) as bar:
        for _ in range(6):
            bar.advance(0, 8, 0.5)
    assert caplog.messages == ["step 6 of 36 (epoch 0) loss 0.5000, 0.7 images/s, about 1 min 00 s left"]


def test_log_lines_are_rare(caplog):
    with caplog.at_level("INFO"), Progress(1000) as bar:
        for _ in range(1000):
            bar.advance(0, 8, 0.5)
    assert len(caplog.records) <= 1


def test_on_a_terminal_there_is_a_bar_with_speed(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress(4) as bar:
        bar.advance(0, 8, 0.25)
        bar.say("epoch 0 is over")
    assert "images/s" in terminal.getvalue()
    assert "epoch 0 is over" in terminal.getvalue()


def test_other_processes_say_nothing(monkeypatch, caplog):
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    with caplog.at_level("INFO"), Progress(4, shown=False) as bar:
        bar.advance(0, 8, 0.25)
        bar.say("nothing")
    assert not caplog.records
