"""CVAT's own XML, "CVAT for images 1.1": tags, boxes and shapes of each image, and the labels of the task.

    <annotations>
      <meta><task><labels><label><name>cat</name></label></labels></task></meta>
      <image id="0" name="dir/a.jpg" subset="Train"><tag label="cat"/><box label="dog" xtl="1" …/></image>
    </annotations>

Every label of the task is annotated on every image. Format: https://docs.cvat.ai/docs/manual/advanced/xml_format/.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from tasks.core.errors import SourceError
from tasks.sources.files import existing_file, image_folder
from tasks.sources.object_lists import Object, Picture, of_subset, source_of
from tasks.sources.raw import RawSource
from tasks.sources.xml_text import read_xml

SHAPES = ("tag", "box", "polygon", "polyline", "points", "cuboid", "ellipse", "mask", "skeleton")


def read(
    name: str,
    root: Path,
    *,
    annotations: str = "annotations.xml",
    images: str = "images",
    exhaustive: bool = True,
    follow_links: bool = False,
) -> RawSource:
    """A CVAT source; native ids are the image names of the file, with the subset in front where it has several.

    annotations: file under `root`.  images: folder or URI prefix that names start from, or subsets.
    exhaustive: whether a label of the task that an image does not bear is absent, or unknown.
    follow_links: allow images that are symbolic links to other folders.
    Raises SourceError naming file and image.
    """
    path = existing_file(Path(root), annotations, option="annotations")
    tree = read_xml(path)
    if tree.tag != "annotations" or tree.find("track") is not None:
        holds = "video tracks" if tree.tag == "annotations" else f"<{tree.tag}>"
        raise SourceError(f"{path}: found {holds}. Export from CVAT as 'CVAT for images 1.1'.")
    nodes = tree.findall("image")
    several = len({node.get("subset") or "" for node in nodes}) > 1
    pictures = []
    for node in nodes:
        image, subset = node.get("name", ""), node.get("subset") or ""
        where = f"{path}: image {image!r}"
        native_id = f"{subset}/{image}" if several and subset else image
        names = [image, *([f"{subset}/{image}"] if subset else [])]
        pictures.append(Picture(native_id, names, list(_objects(node, where)), where, of_subset(subset)))
    declared = [label.text.strip() for label in tree.iterfind("meta//labels/label/name") if label.text]
    return source_of(
        name,
        image_folder(Path(root), images),
        pictures,
        where=str(path),
        declared=declared,
        exhaustive=exhaustive,
        follow_links=follow_links,
    )


def _objects(image: ElementTree.Element, where: str) -> Iterator[Object]:
    for node in image:
        if node.tag in SHAPES:
            if not (label := (node.get("label") or "").strip()):
                raise SourceError(f"{where}: a <{node.tag}> without a label. Correct it, or export the file again.")
            yield Object(label, _area(node))


def _area(node: ElementTree.Element) -> float:
    """Of a box, px²; other shapes have no size here."""
    try:
        left, top, right, bottom = (float(node.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
    except (KeyError, ValueError):
        return math.nan
    return (right - left) * (bottom - top)
