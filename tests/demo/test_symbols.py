"""Two-symbol images: what is on them, their labels, and that no handwriting is shared by two parts."""

from __future__ import annotations

import csv
import string
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.core.errors import ParamsError
from tasks.demo import scenes, symbols
from tasks.sources import folder

SIZES = {"train": 60, "val": 20, "test": 20, "pool": 20}


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "symbols"
    symbols.write(out, seed=7, num_labelled=200, num_pool=30)
    return out


@pytest.fixture(scope="module")
def rows(delivery: Path) -> list[dict[str, str]]:
    with (delivery / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_labelled_image_has_exactly_one_digit_and_one_letter(rows):
    for row in rows:
        digit, letter = row["present"].split("|")
        assert digit in string.digits
        assert letter in string.ascii_lowercase


def test_a_tenth_of_the_labelled_images_is_for_val_and_a_tenth_for_test(rows):
    splits = [row["split"] for row in rows]
    assert {split: splits.count(split) for split in set(splits)} == {"train": 160, "val": 20, "test": 20}


def test_images_are_grey_of_56_px_and_every_listed_one_is_there(delivery, rows):
    assert len(list((delivery / "pool").iterdir())) == 30
    assert {row["image"] for row in rows} == {p.name for p in (delivery / "labelled").iterdir()}
    for path in delivery.rglob("*.png"):
        image = Image.open(path)
        assert (image.mode, image.size) == ("L", (56, 56))


def test_no_error_is_planted(tmp_path):
    assert symbols.write(tmp_path / "symbols", seed=7, num_labelled=10, num_pool=1).num_rows == 0


def test_the_size_of_one_part_leaves_the_others_as_they_are():
    few, many = (symbols.draw_parts({**SIZES, "train": n}, seed=3) for n in (1, 5))
    for part in ("val", "test", "pool"):
        assert all((a.image_HW == b.image_HW).all() for a, b in zip(few[part], many[part], strict=True))


def test_no_handwritten_digit_stands_in_two_parts(monkeypatch):
    seen = []
    monkeypatch.setattr(symbols, "draw_pair", lambda digits, letters, rng: seen.append(digits))
    symbols.draw_parts(dict.fromkeys(symbols.GLYPH_SHARES, 1), seed=0)
    parts = [{glyph.tobytes() for glyph in digits.images_NHW} for digits in seen]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797
    assert all(set(digits.digits_N) == set(range(10)) for digits in seen)


def test_letters_come_in_every_font_and_case_that_can_be_told_from_the_others():
    forms = symbols.letter_forms()
    assert len(forms) == 26
    for letter, forms_VHW in zip(string.ascii_lowercase, forms, strict=True):
        assert len(forms_VHW) == len(symbols.FONTS) * (1 if letter == "l" else 2)
        assert len({form.tobytes() for form in forms_VHW}) > len(symbols.FONTS) / 2
        assert forms_VHW.max(axis=(1, 2)).min() > 0.9, "a font without this letter"
        touches = np.maximum(forms_VHW[:, [0, -1], :].max((1, 2)), forms_VHW[:, :, [0, -1]].max((1, 2)))
        assert touches.min() > 0, "every form is as large as its square allows"


def test_symbols_keep_apart_and_inside(monkeypatch):
    monkeypatch.setattr(symbols, "salt_and_pepper", lambda canvas_HW, share, rng: canvas_HW)
    digits, letters, rng = scenes.load_glyphs(), symbols.letter_forms(), np.random.default_rng(1)
    for _ in range(50):
        pair = symbols.draw_pair(digits, letters, rng)
        assert 60 < (pair.image_HW > 0.3).sum() < 900
        assert (pair.image_HW >= 0).all()
        assert (pair.image_HW <= 1).all()


def test_noise_turns_the_given_share_of_pixels_half_black_half_white():
    noisy_HW = symbols.salt_and_pepper(np.full((400, 400), 0.5), 0.1, np.random.default_rng(0))
    assert (noisy_HW == 0).mean() == pytest.approx(0.05, abs=0.003)
    assert (noisy_HW == 255).mean() == pytest.approx(0.05, abs=0.003)
    assert set(np.unique(noisy_HW)) == {0, 128, 255}


def test_too_few_images_to_part_are_refused_in_one_line(tmp_path):
    with pytest.raises(ParamsError, match="num_labelled is 9; expected at least 10"):
        symbols.write(tmp_path / "symbols", seed=7, num_labelled=9)


def test_our_reader_takes_the_manifest_as_exhaustive_with_the_official_splits(delivery):
    raw = folder.read("symbols", delivery, manifest="labels.csv", images="labelled", exhaustive=True)
    assert raw.images.num_rows == 200
    assert sorted(raw.coverage) == sorted(string.digits + string.ascii_lowercase)
    assert set(raw.images["official_split"].to_pylist()) == {"train", "val", "test"}
