"""The words by which sources name their own splits, and what they mean here. Imports nothing."""

from __future__ import annotations

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trainval", "trainset", "train_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "eval", "valset", "val_set"), "val"),
    **dict.fromkeys(("test", "testing", "holdout", "hold-out", "testset", "test_set"), "test"),
}
"""Word, lower case -> official split. The only list of them: readers, folders and names of pictures use it."""


def official_split(word: str) -> str | None:
    """`train`, `val` or `test` of a source's own word, in any case and with a year (`val2017`); None if it is none."""
    folded = word.strip().casefold()
    return SPLIT_WORDS.get(folded) or SPLIT_WORDS.get(folded.rstrip("0123456789").rstrip("_- "))
