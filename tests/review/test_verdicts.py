"""verdicts.py: what a line must hold, how a wrong one is named, and that appending twice changes no byte."""

from __future__ import annotations

import json
import multiprocessing
import os
import unicodedata
from pathlib import Path

import pytest

from tasks.core import atomic_files
from tasks.core.errors import VerdictError
from tasks.review.verdicts import FIELDS, Verdict, append_verdicts, parse_verdicts, read_verdicts
from tasks.taxonomy.reading import parse_taxonomy

TAXONOMY = parse_taxonomy(
    {"labels": [{"id": "forest"}, {"id": "café"}, {"id": "猫"}], "migrations": [{"rename": {"wood": "forest"}}]}
)
GOOD = Verdict("coco/1", "forest", "present", "ann", "2026-05-01T09:30:00+00:00", sha256="9f", reason="missing?")


def line(**changes) -> str:
    """A good line with some fields changed; None takes a field out."""
    fields = {**vars(GOOD), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None}, ensure_ascii=False)


def complaint(*lines: str, taxonomy=TAXONOMY) -> str:
    with pytest.raises(VerdictError) as caught:
        parse_verdicts("\n".join(lines), taxonomy, where="verdicts.jsonl")
    return str(caught.value)


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "review" / "verdicts.jsonl"
    assert append_verdicts(path, [GOOD]) == 1
    assert read_verdicts(path, TAXONOMY) == [GOOD]
    assert tuple(json.loads(path.read_text())) == FIELDS


def test_no_file_is_no_verdict(tmp_path):
    assert read_verdicts(tmp_path / "none.jsonl") == []


def test_optional_fields_may_be_missing_and_empty_lines_are_skipped():
    text = "\n" + line(sha256=None, reason=None, model=None, queue=None) + "\r\n\n"
    assert parse_verdicts(text, TAXONOMY) == [Verdict("coco/1", "forest", "present", "ann", GOOD.when)]


def test_a_byte_order_mark_is_no_typo(tmp_path):
    path = tmp_path / "v.jsonl"
    path.write_text(line(), encoding="utf-8-sig")
    assert read_verdicts(path, TAXONOMY) == [GOOD]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"verdict": "presnt"}, ["verdicts.jsonl:2:", "verdict:", "'presnt'", "Did you mean 'present'?"]),
        ({"label": "forrest"}, ["verdicts.jsonl:2:", "label:", "'forrest'", "Did you mean 'forest'?"]),
        ({"verdikt": "present"}, ["verdicts.jsonl:2:", "unknown field 'verdikt'", "Did you mean 'verdict'?"]),
        ({"who": None}, ["verdicts.jsonl:2:", "'who' is missing"]),
        ({"who": " "}, ["verdicts.jsonl:2:", "who:", "empty"]),
        ({"image_id": ""}, ["verdicts.jsonl:2:", "image_id:", "empty"]),
        ({"when": "yesterday"}, ["verdicts.jsonl:2:", "when:", "'yesterday'", "2026-05-01T09:30:00+00:00"]),
        ({"when": "2026-05-01T09:30:00"}, ["verdicts.jsonl:2:", "when:", "time zone"]),
        ({"queue": 7}, ["verdicts.jsonl:2:", "queue:", "found 7"]),
    ],
)
def test_a_wrong_line_is_named_by_number_and_field(wrong, expected):
    message = complaint(line(), line(**wrong))
    assert all(part in message for part in expected), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "expected"), [("{'a': 1}", "not JSON"), ("<<<<<<< HEAD", "not JSON"), ("[1]", "found list")]
)
def test_a_line_that_is_no_object_is_named(text, expected):
    assert expected in complaint(line(), "", text)
    assert "verdicts.jsonl:3:" in complaint(line(), "", text)


def test_a_file_in_another_encoding_is_one_clear_line(tmp_path):
    path = tmp_path / "v.jsonl"
    path.write_bytes(line(who="Jörg").encode("latin-1"))
    with pytest.raises(VerdictError, match=r"v\.jsonl: not UTF-8"):
        read_verdicts(path)


def test_names_in_any_script_survive(tmp_path):
    path = tmp_path / "v.jsonl"
    given = Verdict("画像/一 \u2028", "猫", "absent", "Ágnes", GOOD.when, reason="não\nsei")
    append_verdicts(path, [given])
    assert read_verdicts(path, TAXONOMY) == [given]
    assert "猫" in path.read_text(encoding="utf-8")


def test_the_same_letter_typed_as_two_characters_is_the_same_label():
    (verdict,) = parse_verdicts(line(label=unicodedata.normalize("NFD", "café")), TAXONOMY)
    assert verdict.label == "café"


def test_labels_of_before_a_migration_are_accepted_as_they_are():
    (verdict,) = parse_verdicts(line(label="wood"), TAXONOMY)
    assert verdict.label == "wood"


def test_labels_are_not_checked_without_a_taxonomy():
    assert parse_verdicts(line(label="anything"))[0].label == "anything"


# ---------------------------------------------------------------- appending


def later(earlier: Verdict, **changes) -> Verdict:
    return Verdict(**{**vars(earlier), "when": "2026-06-01T00:00:00+00:00", **changes})


def test_appending_the_same_twice_changes_no_byte(tmp_path):
    path = tmp_path / "v.jsonl"
    append_verdicts(path, [GOOD, later(GOOD, label="café")])
    before = path.read_bytes()
    assert append_verdicts(path, [GOOD, later(GOOD, label="café")]) == 0
    assert append_verdicts(path, [later(GOOD)]) == 0, "only the time differs"
    assert path.read_bytes() == before


def test_a_batch_that_repeats_itself_is_written_once(tmp_path):
    assert append_verdicts(tmp_path / "v.jsonl", [GOOD, later(GOOD)]) == 1


def test_a_changed_mind_is_a_new_line_and_so_is_changing_it_back(tmp_path):
    path = tmp_path / "v.jsonl"
    for verdict in (GOOD, later(GOOD, verdict="absent"), later(GOOD)):
        assert append_verdicts(path, [verdict]) == 1
    assert [v.verdict for v in read_verdicts(path)] == ["present", "absent", "present"]


def test_appending_a_changed_mind_twice_changes_no_byte(tmp_path):
    path = tmp_path / "v.jsonl"
    history = [GOOD, later(GOOD, verdict="absent")]
    assert append_verdicts(path, history) == 2
    assert append_verdicts(path, history) == 0


def test_another_person_or_queue_is_a_new_line(tmp_path):
    path = tmp_path / "v.jsonl"
    assert append_verdicts(path, [GOOD, later(GOOD, who="bob"), later(GOOD, queue="q2")]) == 3


def test_the_same_picture_under_another_id_is_not_repeated(tmp_path):
    path = tmp_path / "v.jsonl"
    assert append_verdicts(path, [GOOD, later(GOOD, image_id="new/1")]) == 1


def test_earlier_lines_keep_their_bytes_even_without_a_last_newline(tmp_path):
    path = tmp_path / "v.jsonl"
    before = line(reason="  spaced ").replace('": "', '" :  "').encode() + b"\r\n" + line(who="bob").encode()
    path.write_bytes(before)
    append_verdicts(path, [later(GOOD, who="eve")])
    assert path.read_bytes().startswith(before + b"\n")
    assert len(read_verdicts(path)) == 3


def test_a_wrong_verdict_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "v.jsonl"
    with pytest.raises(VerdictError, match="maybe"):
        append_verdicts(path, [GOOD, later(GOOD, verdict="maybe")])
    assert not path.exists()


def test_nothing_is_appended_to_a_file_that_cannot_be_read(tmp_path):
    path = tmp_path / "v.jsonl"
    path.write_text("<<<<<<< HEAD\n")
    with pytest.raises(VerdictError, match=r"v\.jsonl:1:"):
        append_verdicts(path, [GOOD])
    assert path.read_text() == "<<<<<<< HEAD\n"


# ---------------------------------------------------------------- several at once, and full disks


def answer_in_lots(path: Path, who: str) -> None:
    answers = [Verdict(f"coco/{n}", "forest", "present", who, GOOD.when) for n in range(500)]
    for start in range(0, 500, 50):
        append_verdicts(path, answers[start : start + 50])


def test_eight_people_who_answer_at_once_lose_no_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_files, "LOCK_TIMEOUT_S", 600)  # a busy machine is no fault
    path, fork = tmp_path / "v.jsonl", multiprocessing.get_context("fork")
    people = [f"person {n}" for n in range(8)]
    writers = [fork.Process(target=answer_in_lots, args=(path, who)) for who in people]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 8
    kept = read_verdicts(path)
    assert sorted((v.who, v.image_id) for v in kept) == sorted((who, f"coco/{n}") for who in people for n in range(500))
    assert path.read_bytes().count(b"\n") == 4_000


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "v.jsonl"
    append_verdicts(path, [GOOD])
    before, write = path.read_bytes(), os.write
    calls = []

    def full_at_the_second(handle, data):
        calls.append(data)
        return write(handle, data if len(calls) == 1 else data[:7])

    monkeypatch.setattr(os, "write", full_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        append_verdicts(path, [later(GOOD, who="eve"), later(GOOD, who="bob")])
    assert path.read_bytes() == before


@pytest.mark.parametrize("field", ["who", "image_id", "label", "reason"])
def test_half_a_character_is_refused_by_the_field_that_holds_it(field, tmp_path):
    with pytest.raises(VerdictError, match=rf"^new verdict: {field}: .*lone surrogate"):
        append_verdicts(tmp_path / "v.jsonl", [later(GOOD, **{field: "a\ud800"})])
    with pytest.raises(VerdictError, match=rf"^verdicts:1: {field}: .*lone surrogate"):
        parse_verdicts(line(**{field: "a\udfff"}), where="verdicts")


@pytest.mark.parametrize("who", ["../../x", "ann\x1b[2J", "ann\nbob"])
def test_a_reviewer_whose_name_is_a_path_or_commands_a_terminal_is_refused(who):
    with pytest.raises(VerdictError, match=r"^verdicts:1: who: "):
        parse_verdicts(line(who=who), where="verdicts")


def test_a_line_nested_a_hundred_thousand_deep_is_no_json():
    with pytest.raises(VerdictError, match=r"^verdicts:1: not JSON"):
        parse_verdicts("[" * 100_000)
