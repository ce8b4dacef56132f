"""Training-size images packed in a few Arrow files, memory-mapped: as JPEGs, or raw pixels, read without a copy.

    shards/shard-00000.arrow    uncompressed Arrow IPC: image_id, height, width, pixels (a JPEG, or H * W * 3 bytes,
                                rows first), crc32 of these; in the schema's metadata short_side_px, to which larger
                                images were reduced, and jpeg_quality, at which they were then encoded (raw: none)

Thousands of small files become a handful, which is what DVC and network disks like.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core import engine
from tasks.core.atomic_files import atomic_path
from tasks.core.errors import SourceError, TableError
from tasks.images.decode import MAX_PIXELS, resolve
from tasks.images.jpeg import stored_jpeg_pixels
from tasks.images.stored_pixels import stored_jpeg, stored_pixels

SHARD = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),  # px
        pa.field("width", pa.int32(), nullable=False),
        pa.field("pixels", pa.large_binary(), nullable=False),  # a JPEG, or uint8 RGB
        pa.field("crc32", pa.uint32(), nullable=False),  # of all of the above: checked whenever an image is read
    ]
)
SHORT_SIDE_PX, JPEG_QUALITY = b"short_side_px", b"jpeg_quality"
"""Metadata keys. They stand in the files so that whatever is trained from them depends on both through its data."""
IMAGES_PER_BATCH = 64
"""Decoded by one worker at a time; bounds what waits in memory to be written."""


class Form(NamedTuple):
    """short_side_px: what larger images are reduced to.  jpeg_quality: 1 to 100; None: raw pixels."""

    short_side_px: int
    jpeg_quality: int | None

    def __str__(self) -> str:
        return f"{self.short_side_px} px, {'raw' if self.jpeg_quality is None else f'JPEG {self.jpeg_quality}'}"

    def metadata(self) -> dict[bytes, bytes]:
        """For the schema; `of` reads it back."""
        named = {SHORT_SIDE_PX: self.short_side_px, JPEG_QUALITY: self.jpeg_quality}
        return {key: str(value).encode() for key, value in named.items() if value is not None}

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes]) -> Form:
        """Raises KeyError or ValueError where the metadata is none of a shard's."""
        quality = metadata.get(JPEG_QUALITY)
        return cls(int(metadata[SHORT_SIDE_PX]), None if quality is None else int(quality))

    def crc32(self, image_id: str, height: int, width: int, content: bytes | np.ndarray | pa.Buffer) -> int:
        """Of an image and of all that is said of it."""
        quality = "" if self.jpeg_quality is None else f" {self.jpeg_quality}"
        return zlib.crc32(content, zlib.crc32(f"{self.short_side_px}{quality} {image_id} {height} {width}".encode()))


def write_shards(
    images: pa.Table,
    out_dir: Path,
    *,
    root: Path = Path(),
    short_side_px: int,
    jpeg_quality: int | None = None,
    images_per_file: int,
    workers: int = 1,
) -> None:
    """Pack the images in the order of the rows, in place of earlier shards in `out_dir`. Equal input, equal bytes.

    images: at least image_id and uri, usable images only; with width and height, a file that has grown since beyond
        them and `MAX_PIXELS` is refused.
    short_side_px: larger images are reduced to it.  jpeg_quality: what is not a JPEG of that size yet is encoded with
        it, see `stored_jpeg`; None: raw pixels. Both are kept in each file's metadata.
    images_per_file: at most; above 64, the next lower multiple of 64.
    Raises SourceError naming an image that cannot be decoded or stored.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    batch_rows = min(IMAGES_PER_BATCH, images_per_file)
    batches_per_file = images_per_file // batch_rows
    num_files = -(-images.num_rows // (batch_rows * batches_per_file))
    paths = [out_dir / f"shard-{number:05d}.arrow" for number in range(num_files)]
    form = Form(short_side_px, jpeg_quality)
    pack = partial(_pack, root=Path(root), form=form)
    rows = images.select([name for name in images.column_names if name in ("image_id", "uri", "width", "height")])
    schema = SHARD.with_metadata(form.metadata())
    with closing(
        engine.map_batches(pack, rows, batch_rows=batch_rows, workers=workers, what="images packed", releases_gil=True)
    ) as packed:
        for path in paths:
            with atomic_path(path) as temporary, pa.ipc.new_file(temporary, schema) as writer:
                for batch in islice(packed, batches_per_file):
                    writer.write_table(batch)
    # Those of a killed run too, which had more files to write.
    for stale in {*out_dir.glob("shard-*.arrow"), *out_dir.glob(".shard-*.arrow")} - set(paths):
        stale.unlink()


def _pack(batch: pa.Table, *, root: Path, form: Form) -> pa.Table:
    ids = batch["image_id"].to_pylist()
    locations = [resolve(uri, root) for uri in batch["uri"].to_pylist()]
    # What was ingested under a higher limit of the params is no larger than it was then.
    sides = (batch[name].to_pylist() if name in batch.column_names else [0] * len(ids) for name in ("height", "width"))
    limits = [max(MAX_PIXELS, (height or 0) * (width or 0)) for height, width in zip(*sides, strict=True)]
    packed = [_packed(*image, form) for image in zip(ids, locations, limits, strict=True)]
    return pa.table([list(column) for column in zip(*packed, strict=True)] or [[]] * len(SHARD), schema=SHARD)


def _packed(image_id: str, location: str, max_pixels: int, form: Form) -> tuple[str, int, int, bytes, int]:
    """One row of SHARD."""
    try:
        if form.jpeg_quality is None:
            pixels_HWC = stored_pixels(location, form.short_side_px, max_pixels=max_pixels)
            (height, width, _), content = pixels_HWC.shape, pixels_HWC.tobytes()
        else:
            stored = stored_jpeg(location, *form, max_pixels=max_pixels)
            (width, height), content = stored.image.size, stored.jpeg
    except SourceError as error:
        raise SourceError(f"image '{image_id}': {error} Or run `ingest` again, which quarantines it.") from error
    return image_id, height, width, content, form.crc32(image_id, height, width, content)


class ShardReader:
    """The images of a shard folder by position: `reader[i]` is uint8 (H, W, 3), and `positions` tells each image's i.

    Of raw pixels it is a read-only view of the file. Of an image only a row of an array is kept, so that a million are
    at hand within a second or two.
    ids: pa.StringArray, in the order of the files.  form: how they were packed.
    Pickles as its path, so each worker of a DataLoader maps the files itself and all share the same pages.
    """

    def __init__(self, folder: Path) -> None:
        """Raises TableError when the folder has no shards, one is damaged, or they were not packed alike."""
        self.folder = Path(folder)
        paths = sorted(self.folder.glob("shard-*.arrow"))
        if not paths:
            raise TableError(f"{folder}: no shards. Run `dvc repro shard` first.")
        self._buffers: list[pa.Buffer] = []
        ids, places, forms = zip(*map(self._map, paths), strict=True)
        if len(set(forms)) > 1:
            ways = " and ".join(sorted(map(str, set(forms))))
            raise TableError(f"{folder}: packed in several ways, {ways}. Run `dvc repro -f shard`.")
        self.form = forms[0]
        self.ids = pa.concat_arrays(ids)
        self._places = np.concatenate(places)  # int64 (N, 6): buffer, offset in it, bytes, height, width, crc32

    def _map(self, path: Path) -> tuple[pa.Array, np.ndarray, Form]:
        try:
            file = pa.ipc.open_file(pa.memory_map(str(path)))
            table = file.read_all()  # mapped, not read
            form = Form.of(file.schema.metadata or {})
            if file.schema.remove_metadata() != SHARD:
                raise ValueError("other columns than this version writes")
            table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise TableError(f"{path}: not a readable shard ({error}). Delete it and run `dvc repro shard`.") from error
        chunks = [chunk for chunk in table["pixels"].chunks if len(chunk)]
        offsets = [np.frombuffer(c.buffers()[1], np.int64, len(c) + 1, 8 * c.offset) for c in chunks]
        places = np.empty((len(table), 6), np.int64)
        places[:, 0] = np.repeat(len(self._buffers) + np.arange(len(chunks)), np.array([*map(len, chunks)], np.int64))
        places[:, 1] = np.concatenate([np.empty(0, np.int64), *(ends[:-1] for ends in offsets)])
        places[:, 2] = np.concatenate([np.empty(0, np.int64), *(ends[1:] for ends in offsets)]) - places[:, 1]
        for column, name in enumerate(("height", "width", "crc32"), start=3):
            places[:, column] = table[name].combine_chunks()
        self._buffers += [chunk.buffers()[2] for chunk in chunks]
        return pa.concat_arrays([pa.array([], pa.string()), *table["image_id"].chunks]), places, form

    def positions(self, image_ids: Sequence[str]) -> np.ndarray:
        """Position of each image, -1 where it is not here; int64 (M,)."""
        places = pc.index_in(pa.array(image_ids, pa.string()), value_set=self.ids)
        return places.fill_null(-1).to_numpy().astype(np.int64)

    @cached_property
    def image_ids(self) -> list[str]:
        """`ids` as strings of Python, for those who want them all."""
        return self.ids.to_pylist()

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each image id, for those who look up one at a time."""
        return {image_id: i for i, image_id in enumerate(self.image_ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> np.ndarray:
        """Raises TableError when a bit of the image, or of what is said of it, has changed since it was packed."""
        buffer, start, num_bytes, height, width, check = self._places[position].tolist()
        image_id = self.ids[position].as_py()
        try:
            content = np.frombuffer(self._buffers[buffer], np.uint8, count=num_bytes, offset=start)
            if check != self.form.crc32(image_id, height, width, content):
                raise ValueError("checksum")
            if self.form.jpeg_quality is None:
                return content.reshape(height, width, 3)
            return stored_jpeg_pixels(content.data, width, height)
        except (ValueError, OSError) as error:  # beyond the file, changed, or never a picture
            raise TableError(
                f"{self.folder}: image '{image_id}' is not as it was packed (its checksum is broken). "
                "Delete the folder and run `dvc repro shard`."
            ) from error

    def __reduce__(self) -> tuple:
        return ShardReader, (self.folder,)
