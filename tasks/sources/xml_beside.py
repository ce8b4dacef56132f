"""Pascal VOC's XML beside each picture, without lists: what labelImg and Roboflow's VOC export write.

    <root>/a.jpg, <root>/day 1/b.xml, …         one folder, with those below
    <root>/train/b.jpg, <root>/train/b.xml      or one an official split

The picture of an XML is the one with its name, whatever the file says inside; only where several share the name its own
`<filename>` decides. A picture without an XML has not been annotated: it is left out and counted. The classes are those
that the files name, unless they are declared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from tasks.core.errors import SourceError
from tasks.core.image_suffixes import IMAGE_SUFFIXES
from tasks.sources.files import by_split, image_folder
from tasks.sources.object_lists import Picture, source_of
from tasks.sources.raw import RawSource
from tasks.sources.voc import Difficult, difficult_reasons, read_annotation


def read(
    name: str,
    root: Path,
    *,
    folders: str | dict[str, str] = ".",
    classes: Sequence[str] | None = None,
    difficult: Difficult = "unknown",
    follow_links: bool = False,
) -> RawSource:
    """XML files beside their pictures; native ids are paths from `root` without suffix.

    folders: one under `root`, or {official split: one}, each with those below it.
    classes: exhaustively annotated classes, any other is refused; None: those of the files.
    difficult: what an object marked so says about its class when it is the only one of it.
    follow_links: allow images that are symbolic links to other folders.
    Raises SourceError naming file and object.
    """
    pictures, alone = [], 0
    for split, folder in by_split(folders):
        place = Path(root) / folder
        if not place.is_dir():
            raise SourceError(f"{place}: no such folder. Check the source's path and option 'folders'.")
        files = [p for p in sorted(place.rglob("*")) if not any(part[0] == "." for part in p.relative_to(place).parts)]
        named = defaultdict(list)
        for path in files:
            if path.suffix.lower() in IMAGE_SUFFIXES:
                named[path.with_suffix("")].append(path.name)
        annotated = [path for path in files if path.suffix.lower() == ".xml"]
        for path in annotated:
            annotation, own = read_annotation(path), named[path.with_suffix("")]
            wanted = PureWindowsPath(annotation.file_name).name
            picture = wanted if wanted in own else own[0] if own else f"{path.stem}.jpg"
            native_id, file = (path.with_name(part).relative_to(root).as_posix() for part in (path.stem, picture))
            objects = annotation.listed(difficult)
            pictures.append(Picture(native_id, [file], objects, str(path), split, annotation.attribution))
        alone += sum(map(len, named.values())) - sum(bool(named[path.with_suffix("")]) for path in annotated)
    return source_of(
        name,
        image_folder(Path(root), "."),
        pictures,
        where=f"{root}: no XML file in {folders}",
        classes=classes,
        reasons=difficult_reasons(difficult),
        dropped=[("images", alone, "picture without an annotation file of its own")],
        follow_links=follow_links,
    )
