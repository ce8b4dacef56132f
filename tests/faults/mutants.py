"""Files of every reader, changed at random: each is used or refused in one line, within seconds and bounded memory.

A mutant is a function of its target's name and its number, so that a failure can be looked at again:

    python -m tests.faults --mutant "coco 17"
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml

from tasks.core.error_lines import line_of
from tasks.core.names import printable
from tests.faults.targets import BINARY, TARGETS, TEXT, Target

LIMIT_S = 30
"""For one mutant; a busy machine included."""
MEMORY_MB = 2048
"""Beyond what the process needs to begin with."""

Outcome = str
GOOD = ("used", "refused")
BAD = ("traceback", "several lines", "changed silently", "hang", "crash")

HOSTILE: list[Any] = [
    None, True, -1, 0, 2**31, 2**63, 2**70, 1e999, -1e999, float("nan"), 0.5, "", " ", "\0", "\ud800", "\ufeff",
    "$x^2$", "_hidden", "<b>&", "../../x", "/etc/passwd", "a" * 5000, "\x1b[31m", "é", "e\u0301", "1", "nan", "犬🐕", "file:///x",
    "{source}", "%s", [], {}, [[]], {"a": 1}, ["x", 1], [None],
]  # fmt: skip
PIECES = [
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\n", b",", b'"', b"'", b"{", b"}", b"[", b"]", b"<", b">",
    b"&", b"&amp;", b"&x;", b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"<![CDATA[", b"]]>", b"null", b"NaN", b"-1", b"1e999",
    b"99999999999999999999999", b"..", b"../../x", b"\\u0000", b"\\ud800", b"\x1b[2J", b": ", b"- ", b"*a", b"&a ",
    b"!!python/object:os.system", b"[" * 3000, b'{"a":' * 3000, b"<a>" * 3000, b"\t", b"|", b"0", b"1",
]  # fmt: skip
BINARY_PIECES = [b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01", b"PAR1", b"ARROW1\0\0", b"\n\n"]


# ---------------------------------------------------------------- mutation


def mutate(data: bytes, rng: random.Random, *, text: bool) -> bytes:
    """`data` after one to three changes."""
    if text and rng.random() < 0.6 and (document := _parsed(data)):
        value, dump = document
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            value = _changed_value(value, rng)
        return dump(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = _changed_bytes(data, rng, PIECES if text else BINARY_PIECES)
    return data


def _parsed(data: bytes) -> tuple[Any, Callable[[Any], bytes]] | None:
    """What a JSON, JSON lines or YAML text holds, and how it is written again."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        return json.loads(text), lambda value: json.dumps(value).encode()
    except ValueError:
        pass
    try:
        lines = [json.loads(line) for line in text.splitlines()]
        return lines, lambda value: "\n".join(map(json.dumps, value if isinstance(value, list) else [value])).encode()
    except ValueError:
        pass
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    if not isinstance(value, dict):
        return None
    return value, lambda value: yaml.safe_dump(value, sort_keys=False, allow_unicode=False).encode("utf-8", "replace")


def _changed_value(value: Any, rng: random.Random) -> Any:
    """A copy with one place of the tree replaced, removed, repeated, renamed or wrapped."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.15:
        return rng.choice([*HOSTILE, [value], {"": value}, str(value)])
    if isinstance(value, list):
        place = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.1:
            return value[:place] + value[place + 1 :]
        if kind < 0.2:
            return value[: place + 1] + value[place:]
        return [*value[:place], _changed_value(value[place], rng), *value[place + 1 :]]
    key = rng.choice(list(value))
    kind = rng.random()
    if kind < 0.1:
        return {k: v for k, v in value.items() if k != key}
    if kind < 0.2:
        new = rng.choice(["", "x", "../../x", "$y$", "a" * 300, str(key).upper(), "\x1b[2J"])
        return {new if k == key else k: v for k, v in value.items()}
    return {k: _changed_value(v, rng) if k == key else v for k, v in value.items()}


def _changed_bytes(data: bytes, rng: random.Random, pieces: list[bytes]) -> bytes:
    if not data:
        return rng.choice(pieces)
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.choice((1, 2, 4, 8, 40, 400)))
    kind = rng.randrange(6)
    if kind == 0:  # a bit
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 1:  # cut off
        return data[:at]
    if kind == 2:  # taken out
        return data[:at] + data[end:]
    if kind == 3:  # repeated
        return data[:end] + data[at:]
    piece = rng.choice(pieces)
    return data[:at] + piece + (data[at + len(piece) :] if kind == 4 else data[at:])


# ---------------------------------------------------------------- outcomes


@dataclass
class Tally:
    """What became of the mutants of one target. failures: (number, outcome, what) of the bad ones."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    failures: list[tuple[int, Outcome, str]] = field(default_factory=list)


def outcome_of(target: Target, before: object) -> tuple[Outcome, str]:
    """(outcome, what was said). before: what the undamaged file gave."""
    try:
        result = target.read()
    except Exception as error:
        line = line_of(error)
        if line is None:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "/tasks/" in f.filename]
            place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
            return "traceback", f"{place} {type(error).__name__}: {str(error)[:150]}"
        return ("several lines" if "\n" in line.strip() else "refused"), line[:200]
    if target.sealed and result != before and result != "":
        return "changed silently", ""
    return ("refused" if target.sealed and result == "" else "used"), ""


def try_one(name: str, number: int) -> tuple[bytes, Outcome, str]:
    """One mutant again, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        target = TARGETS[name](Path(folder))
        before, data = target.read(), target.path.read_bytes()
        mutant = mutate(data, random.Random(f"{name} {number}"), text=name in TEXT)
        target.path.write_bytes(mutant)
        return mutant, *outcome_of(target, before)


def _work(connection, name: str, first: int, count: int) -> None:
    """Mutants of one target: their outcomes, one after the other."""
    begin = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with tempfile.TemporaryDirectory() as folder:
        target = TARGETS[name](Path(folder))
        before, data = target.read(), target.path.read_bytes()
        resource.setrlimit(resource.RLIMIT_AS, (begin + MEMORY_MB * 2**20,) * 2)
        connection.send("ready")
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        for number in range(first, first + count):
            mutant = mutate(data, random.Random(f"{name} {number}"), text=name in TEXT)
            # Another file and time: what is kept by its age must not answer for it.
            target.path.unlink()
            target.path.write_bytes(mutant)
            connection.send(("used", "") if mutant == data else outcome_of(target, before))


def tally_of(name: str, count: int, context: multiprocessing.context.BaseContext, first: int = 0) -> Tally:
    """Try `count` mutants of a target, in a process that may hang or die of them."""
    tally, done = Tally(), 0
    while done < count:
        mine, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, name, first + done, count - done), daemon=True)
        process.start()
        theirs.close()
        try:
            assert mine.recv() == "ready", "the undamaged file"
            while done < count:
                outcome, what = _next_outcome(mine)
                tally.counts[outcome] += 1
                if outcome in BAD:
                    tally.failures.append((first + done, outcome, what))
                done += 1
                if outcome in ("hang", "crash"):
                    break  # a fresh process goes on with the next
        finally:
            process.kill()
            process.join()
            mine.close()
    return tally


def _next_outcome(connection: Connection) -> tuple[Outcome, str]:
    try:
        return connection.recv() if connection.poll(LIMIT_S) else ("hang", f"more than {LIMIT_S} s")
    except EOFError:
        return "crash", ""


def run(num_text: int, num_binary: int, *, only: str = "", first: int = 0) -> Iterator[tuple[str, Tally]]:
    """(target, tally) of about so many mutants of text files and of binary files, spread over the targets."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.targets"])
    for targets, total in ((TEXT, num_text), (BINARY, num_binary)):
        for name in targets:
            if total and only in name:
                yield name, tally_of(name, -(-total // len(targets)), context, first)


def show(tallies: Iterable[tuple[str, Tally]]) -> int:
    """Print a row a target as it is done, each failure below it, and the sums; returns how many failed."""
    columns = (*GOOD, *BAD)
    total: Counter[Outcome] = Counter()
    print(f"{'mutants of':<28}" + "".join(f"{column:>17}" for column in columns))
    for name, tally in tallies:
        print(f"{name:<28}" + "".join(f"{tally.counts[column]:>17,}" for column in columns), flush=True)
        for number, outcome, what in tally.failures:
            print(f"  {outcome}: --mutant '{name} {number}'  {printable(what)}", flush=True)
        total += tally.counts
    print(f"{f'{total.total():,} in all':<28}" + "".join(f"{total[column]:>17,}" for column in columns))
    return sum(total[column] for column in BAD)
