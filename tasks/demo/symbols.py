"""Two-symbol images: one real handwritten digit and one letter, 56 x 56 px grey, under salt-and-pepper noise.

    labels.csv       image, present (a digit and a letter), split: train, val, test
    labelled/        the images that it lists
    pool/            images only

The digits are scikit-learn's, the letters those of the fonts that matplotlib brings along, upper and lower case. No
handwritten digit stands in two of train, val, test and pool; the fonts are the same everywhere. A digit's label is
"0" to "9", a letter's "a" to "z".

Axes: V forms of a letter, H W pixels.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tasks.core.errors import ParamsError
from tasks.core.tables import TRUTH, write_text
from tasks.demo.new_folder import new_folder
from tasks.demo.scenes import Glyphs, free_place, ink, load_glyphs, share_glyphs

IMAGE_PX = 56
SYMBOL_PX = (22, 28)  # side of a symbol before it is cut to its ink
TILT = 20.0  # degrees, either way
NOISE = (0.02, 0.08)  # share of an image's pixels that are salt or pepper
GLYPH_SHARES = {"train": 0.5, "val": 0.1, "test": 0.2, "pool": 0.2}  # of the handwritten digits
HELD_OUT_SHARE = 0.1  # of the labelled images, for val and for test each

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Italic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10",
)  # fmt: skip
UNLIKE_OTHERS = frozenset(string.ascii_letters) - {"l"}  # a small l looks like a capital I in a sans-serif font
LETTER_PX = 32


@dataclass(frozen=True)
class Pair:
    """image_HW: uint8 (56, 56).  digit: 0..9.  letter: 0..25."""

    image_HW: np.ndarray
    digit: int
    letter: int

    @property
    def labels(self) -> tuple[str, str]:
        return str(self.digit), string.ascii_lowercase[self.letter]


def write(out: Path, *, seed: int, num_labelled: int = 30_000, num_pool: int = 30_000) -> pa.Table:
    """Write the delivery to the folder `out`, replacing what is there. Equal arguments give equal bytes.

    num_labelled: images with labels, a tenth each for val and test.  num_pool: images without.
    Returns the planted label errors, TRUTH: none.
    Raises ParamsError for fewer than 10 labelled images.
    """
    if num_labelled < 10:
        raise ParamsError(f"make_demo symbols: num_labelled is {num_labelled}; expected at least 10, for three parts.")
    num_held_out = round(HELD_OUT_SHARE * num_labelled)
    sizes = {
        "train": num_labelled - 2 * num_held_out, "val": num_held_out, "test": num_held_out, "pool": num_pool
    }  # fmt: skip
    parts = draw_parts(sizes, seed=seed)
    with new_folder(out) as built:
        rows = ["image,present,split"]
        for split in ("train", "val", "test"):
            for number, pair in enumerate(parts[split], start=1):
                name = f"{split}_{number:05d}.png"
                rows.append(f"{name},{'|'.join(pair.labels)},{split}")
                _write_png(built / "labelled" / name, pair.image_HW)
        for number, pair in enumerate(parts["pool"], start=1):
            _write_png(built / "pool" / f"{number:05d}.png", pair.image_HW)
        write_text(built / "labels.csv", "\n".join(rows) + "\n")
    return TRUTH.empty_table()


def draw_parts(sizes: dict[str, int], *, seed: int) -> dict[str, list[Pair]]:
    """`sizes` pairs for train, val, test and pool; the size of one changes nothing in another."""
    split_rng, *rngs = np.random.default_rng(seed).spawn(1 + len(GLYPH_SHARES))
    digits = share_glyphs(load_glyphs(), list(GLYPH_SHARES.values()), split_rng)
    letters = letter_forms()
    return {
        part: [draw_pair(glyphs, letters, rng) for _ in range(sizes[part])]
        for part, glyphs, rng in zip(GLYPH_SHARES, digits, rngs, strict=True)
    }


def draw_pair(digits: Glyphs, letters: Sequence[np.ndarray], rng: np.random.Generator) -> Pair:
    """A digit and a letter, each as likely as any other, in light ink on dark, hardly overlapping; then noise."""
    digit, letter = int(rng.integers(10)), int(rng.integers(26))
    forms = (digits.images_NHW[digits.digits_N == digit], letters[letter])
    canvas_HW = np.full((IMAGE_PX, IMAGE_PX), rng.uniform(0, 0.15))
    for ink_HW, (x, y) in _placed([form_VHW[rng.integers(len(form_VHW))] for form_VHW in forms], rng):
        height, width = ink_HW.shape
        region = canvas_HW[y : y + height, x : x + width]
        region += ink_HW * (rng.uniform(0.6, 1.0) - region)
    return Pair(salt_and_pepper(canvas_HW, rng.uniform(*NOISE), rng), digit, letter)


def _placed(glyphs: Sequence[np.ndarray], rng: np.random.Generator) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Each glyph, scaled and tilted at random, with its left and top."""
    while True:
        placed, taken = [], []
        for glyph_HW in glyphs:
            ink_HW = ink(glyph_HW, rng.uniform(*SYMBOL_PX), rng.uniform(-TILT, TILT))
            if (place := free_place(ink_HW.shape, IMAGE_PX, taken, rng)) is None:
                break
            placed.append((ink_HW, place))
            taken.append((*place, ink_HW.shape[1], ink_HW.shape[0]))
        else:
            return placed


def salt_and_pepper(canvas_HW: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """uint8 in 0..255 of a canvas in [0, 1]; a `share` of the pixels is white or black, half of them each."""
    draw_HW = rng.random(canvas_HW.shape)
    noisy_HW = np.select([draw_HW < share / 2, draw_HW < share], [0.0, 1.0], canvas_HW)
    return np.rint(255 * np.clip(noisy_HW, 0, 1)).astype(np.uint8)


def letter_forms() -> list[np.ndarray]:
    """For each of the 26 letters its forms, float32 (V, 32, 32), ink in [0, 1]: cases x fonts."""
    from matplotlib import get_data_path

    fonts = [_font(Path(get_data_path(), "fonts", "ttf", f"{name}.ttf")) for name in FONTS]
    cases = [[c for c in (upper, upper.lower()) if c in UNLIKE_OTHERS] for upper in string.ascii_uppercase]
    return [np.stack([_drawn(character, font) for character in of for font in fonts]) for of in cases]


def _font(path: Path) -> ImageFont.FreeTypeFont:
    # The basic engine: the other one lays out text by a system library, whose version may differ.
    return ImageFont.truetype(str(path), 2 * LETTER_PX, layout_engine=ImageFont.Layout.BASIC)


def _drawn(character: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """float32 (32, 32) of one character, enlarged to the height or width of the square."""
    image = Image.new("L", (4 * LETTER_PX, 4 * LETTER_PX))
    ImageDraw.Draw(image).text((LETTER_PX, LETTER_PX), character, fill=255, font=font)
    fitted = ImageOps.pad(image.crop(image.getbbox()), (LETTER_PX, LETTER_PX), Image.Resampling.BOX)
    return np.asarray(fitted, np.float32) / 255


def _write_png(path: Path, image_HW: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_HW).save(path, "PNG")
