"""A COCO instances file as large as train2017's -> labels table."""

from __future__ import annotations

import random
import tempfile
from functools import partial
from pathlib import Path

from tasks.sources import coco
from tests.benchmarks import Row, measure, show

NUM_IMAGES, NUM_ANNOTATIONS = 118_287, 860_001  # as in instances_train2017.json
CATEGORY_IDS = sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})  # COCO's 80


def write_instances(path: Path, *, num_images: int, num_annotations: int, seed: int = 0) -> None:
    """Instances with polygons of 10 to 45 corners, so that the whole file has the real one's size (about 464 MB)."""
    rng = random.Random(seed)
    corners = [f"{rng.uniform(0, 640):.2f}" for _ in range(5_000)]
    polygons = [",".join(rng.choices(corners, k=2 * rng.randint(10, 45))) for _ in range(4_000)]
    with open(path, "w", encoding="ascii") as file:
        file.write('{"info": {}, "licenses": [{"url": "http://example.org/by/2.0/", "id": 4, "name": "Attribution"}],')
        file.write('"images": [')
        for i in range(num_images):
            file.write(
                f'{"," if i else ""}{{"license": 4, "file_name": "{4 * i:012d}.jpg", "height": 480, "width": 640, '
                f'"coco_url": "http://images.example.org/train2017/{4 * i:012d}.jpg", '
                f'"date_captured": "2013-11-14 11:18:45", "flickr_url": "http://example.org/{i}_z.jpg", "id": {4 * i}}}'
            )
        file.write('], "annotations": [')
        for i in range(num_annotations):
            file.write(
                f'{"," if i else ""}{{"segmentation": [[{rng.choice(polygons)}]], "area": {rng.uniform(9, 1e5):.4f}, '
                f'"iscrowd": 0, "image_id": {4 * rng.randrange(num_images)}, "bbox": [12.5, 8.25, 110.41, 93.9], '
                f'"category_id": {rng.choice(CATEGORY_IDS)}, "id": {i + 1}}}'
            )
        names = ",".join(f'{{"supercategory": "thing", "id": {c}, "name": "thing {c}"}}' for c in CATEGORY_IDS)
        file.write(f'], "categories": [{names}]}}')


def ours(path: Path) -> int:
    """Number of distinct (image, category) pairs."""
    return coco.read("coco", path.parent, annotations=path.name, images=".").labels.num_rows


def warm_up(path: Path) -> tuple:
    """Read a small file, so that what pyarrow imports on first use is not on the clock."""
    ours(path)
    return ()


def peer(path: Path) -> int:
    from pycocotools.coco import COCO

    annotations = COCO(str(path)).anns.values()
    return len({(a["image_id"], a["category_id"]) for a in annotations})


def main(argv: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = folder / "small.json", folder / "instances_train2017.json"
        write_instances(small, num_images=10, num_annotations=10)
        write_instances(large, num_images=NUM_IMAGES, num_annotations=NUM_ANNOTATIONS)
        size_mb = large.stat().st_size / 1e6
        slow = measure(peer, large)
        fast = measure(ours, large, prepare=partial(warm_up, small))
    assert fast.value == slow.value, (fast.value, slow.value)
    show(
        f"COCO instances JSON: {NUM_IMAGES:,} images, {NUM_ANNOTATIONS:,} annotations, {size_mb:.0f} MB; equal pairs",
        [
            Row(
                f"peer: pycocotools ({slow.peak_mb / 1024:.2f} GB)",
                fast.seconds,
                slow.seconds,
                fast.peak_mb,
                ">= 10 x, <= 0.7 GB",
            )
        ],
    )
