"""What people hand in: lists of URLs."""

from __future__ import annotations

from tests.sources.bad_input.case import Case, remove, text

CASES = [
    Case("no list", remove("urls.csv"), ("urls.csv: no such file",)),
    Case("wrong header", text("urls.csv", "word,url\na,http://x/\n"), ("urls.csv:1", "no column 'keyword'")),
    Case(
        "local address",
        text("urls.csv", "keyword,url\na,file:///etc/passwd\n"),
        ("urls.csv:2", "file:///etc/passwd"),
    ),
    Case("no address", text("urls.csv", "keyword,url\na,http://[x/1\n"), ("urls.csv:2", "expected an http or https")),
    Case("no keyword", text("urls.csv", "keyword,url\n,http://x/1\n"), ("urls.csv:2", "keyword is empty")),
    Case(
        "damaged journal",
        text("downloads.jsonl", "x\n{}\n"),
        ("downloads.jsonl:1", "not a download record"),
    ),
]
