"""Training-size images packed in a few Arrow files: decoded once, memory-mapped, read without a copy.

    shards/shard-00000.arrow    uncompressed Arrow IPC: image_id, height, width, pixels (H * W * 3 bytes, rows first),
                                crc32 of these; in the schema's metadata short_side_px, to which larger images were
                                reduced

Thousands of small files become a handful, which is what DVC and network disks like.
"""

from __future__ import annotations

import zlib
from contextlib import closing
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.core import engine
from tasks.core.errors import SourceError, TableError
from tasks.core.tables import atomic_path
from tasks.images.decode import MAX_PIXELS, resolve
from tasks.images.stored_pixels import stored_pixels

SHARD = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),  # px
        pa.field("width", pa.int32(), nullable=False),
        pa.field("pixels", pa.large_binary(), nullable=False),  # uint8 RGB
        pa.field("crc32", pa.uint32(), nullable=False),  # of all of the above: checked whenever an image is read
    ]
)
SHORT_SIDE_PX = b"short_side_px"
"""Metadata key. The size stands in the files so that whatever is trained from them depends on it through its data."""
IMAGES_PER_BATCH = 64
"""Decoded by one worker at a time; bounds what waits in memory to be written."""


def write_shards(
    images: pa.Table, out_dir: Path, *, root: Path = Path(), short_side_px: int, images_per_file: int, workers: int = 1
) -> None:
    """Pack the images in the order of the rows, in place of earlier shards in `out_dir`. Equal input, equal bytes.

    images: at least image_id and uri, usable images only; with width and height, a file that has grown since beyond
        them and `MAX_PIXELS` is refused.
    short_side_px: larger images are reduced to it; kept in each file's metadata.
    images_per_file: at most; above 64, the next lower multiple of 64.
    Raises SourceError naming an image that cannot be decoded.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    batch_rows = min(IMAGES_PER_BATCH, images_per_file)
    batches_per_file = images_per_file // batch_rows
    num_files = -(-images.num_rows // (batch_rows * batches_per_file))
    paths = [out_dir / f"shard-{number:05d}.arrow" for number in range(num_files)]
    pack = partial(_pack, root=Path(root), short_side_px=short_side_px)
    rows = images.select([name for name in images.column_names if name in ("image_id", "uri", "width", "height")])
    schema = SHARD.with_metadata({SHORT_SIDE_PX: str(short_side_px).encode()})
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


def _pack(batch: pa.Table, *, root: Path, short_side_px: int) -> pa.Table:
    ids = batch["image_id"].to_pylist()
    locations = [resolve(uri, root) for uri in batch["uri"].to_pylist()]
    # What was ingested under a higher limit of the params is no larger than it was then.
    sides = (batch[name].to_pylist() if name in batch.column_names else [0] * len(ids) for name in ("height", "width"))
    limits = [max(MAX_PIXELS, (height or 0) * (width or 0)) for height, width in zip(*sides, strict=True)]
    pixels = [
        training_pixels(*image, short_side_px=short_side_px, max_pixels=limit)
        for *image, limit in zip(ids, locations, limits, strict=True)
    ]
    heights, widths = ([p.shape[axis] for p in pixels] for axis in (0, 1))
    checks = [_crc32(short_side_px, *image) for image in zip(ids, heights, widths, pixels, strict=True)]
    return pa.table([ids, heights, widths, [p.tobytes() for p in pixels], checks], schema=SHARD)


def _crc32(short_side_px: int, image_id: str, height: int, width: int, pixels: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels), zlib.crc32(f"{short_side_px} {image_id} {height} {width}".encode()))


def training_pixels(image_id: str, location: str, short_side_px: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """uint8 (H, W, 3) with min(H, W) <= short_side_px and the image's aspect, up to rounding."""
    try:
        return stored_pixels(location, short_side_px, max_pixels=max_pixels)
    except SourceError as error:
        raise SourceError(f"image '{image_id}': {error} Or run `ingest` again, which quarantines it.") from error


class ShardReader:
    """The images of a shard folder by position: `reader[reader.index[image_id]]` is uint8 (H, W, 3), read-only.

    image_ids: in the order of the files.  short_side_px: what larger images were reduced to when they were packed.
    Pickles as its path, so each worker of a DataLoader maps the files itself and all share the same pages.
    """

    def __init__(self, folder: Path) -> None:
        """Raises TableError when the folder has no shards, one is damaged, or they were not packed at one size."""
        self.folder = Path(folder)
        paths = sorted(self.folder.glob("shard-*.arrow"))
        if not paths:
            raise TableError(f"{folder}: no shards. Run `dvc repro shard` first.")
        self.image_ids: list[str] = []
        self._buffers: list[pa.Buffer] = []
        places: list[np.ndarray] = []
        sizes: set[int] = set()
        for path in paths:
            ids, place, short_side_px = self._map(path)
            self.image_ids += ids
            places.append(place)
            sizes.add(short_side_px)
        if len(sizes) > 1:
            raise TableError(f"{folder}: shards of several sizes, {sorted(sizes)} px. Run `dvc repro -f shard`.")
        self.short_side_px = sizes.pop()
        self._places = np.concatenate(places)  # int64 (N, 5): buffer, offset in it, height, width, crc32

    def _map(self, path: Path) -> tuple[list[str], np.ndarray, int]:
        try:
            source = pa.memory_map(str(path))
            file = pa.ipc.open_file(source)
            batches = [file.get_batch(i) for i in range(file.num_record_batches)]
            short_side_px = int((file.schema.metadata or {})[SHORT_SIDE_PX])
            if file.schema.remove_metadata() != SHARD:
                raise ValueError("other columns than this version writes")
            for batch in batches:
                batch.validate(full=True)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise TableError(f"{path}: not a readable shard ({error}). Delete it and run `dvc repro shard`.") from error
        ids, places = [], []
        for batch in batches:
            pixels = batch["pixels"]
            _, offsets, data = pixels.buffers()
            starts = np.frombuffer(offsets, np.int64)[pixels.offset : pixels.offset + len(pixels)]
            ids += batch["image_id"].to_pylist()
            number = np.full(len(pixels), len(self._buffers))
            columns = [batch[name].to_numpy().astype(np.int64) for name in ("height", "width", "crc32")]
            places.append(np.stack([number, starts, *columns], axis=1))
            self._buffers.append(data)
        return ids, np.concatenate(places) if places else np.zeros((0, 5), np.int64), short_side_px

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each image id."""
        return {image_id: i for i, image_id in enumerate(self.image_ids)}

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, position: int) -> np.ndarray:
        """Raises TableError when a bit of the image, or of what is said of it, has changed since it was packed."""
        buffer, start, height, width, check = self._places[position].tolist()
        image_id = self.image_ids[position]
        try:
            flat = np.frombuffer(self._buffers[buffer], np.uint8, count=height * width * 3, offset=start)
        except ValueError:
            check = -1  # beyond the file
        if check < 0 or check != _crc32(self.short_side_px, image_id, height, width, flat):
            raise TableError(
                f"{self.folder}: image '{image_id}' is not as it was packed (its checksum is broken). "
                "Delete the folder and run `dvc repro shard`."
            )
        return flat.reshape(height, width, 3)

    def __reduce__(self) -> tuple:
        return ShardReader, (self.folder,)
