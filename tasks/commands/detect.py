"""A detector's scores of whole images, as a file for a source of predictions: torchvision's, or the one to be exported.

The score of a label on an image is that of its best box. The file names images as they are called on disk, which is how
`kind: predictions` finds them again. Axes: B boxes of one image.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import torch
import typer
from PIL import Image
from torch import nn
from torchvision.models import detection as detection_models
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.transforms.functional import pil_to_tensor

from tasks.commands import read_lines
from tasks.commands.predict import list_images
from tasks.core import tables
from tasks.core.errors import ModelError, SourceError, did_you_mean
from tasks.export.detector_files import CLASSES, open_detector, read_classes
from tasks.images.decode import open_rgb
from tasks.images.stored_pixels import stored_pixels
from tasks.params import Params, load_params
from tasks.taxonomy.reading import read_taxonomy

logger = logging.getLogger(__name__)

NOT_A_LABEL = ("__background__", "N/A")
"""Places in torchvision's lists of categories that no object has."""

SCORES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),  # file name
        pa.field("label", pa.string(), nullable=False),  # the detector's name for it
        pa.field("score", pa.float32(), nullable=False),  # [0, 1]
    ]
)


def detect(
    network: str,
    weights: Path,
    paths: Iterable[str],
    out: Path,
    *,
    open_image: Callable[[str], Image.Image],
    categories: Sequence[str] | None = None,
) -> int:
    """Write the SCORES of `paths`; returns how many images could be read, the others are logged.

    network: a detection model of torchvision.  weights: a .safetensors file of its state dict.
    categories: names by class index, background first; those of torchvision's own weights when None.
    open_image: path -> RGB image; raises SourceError for one that cannot be read.
    Raises ModelError for an unknown network and for weights that are not of it; SourceError when no image was read.
    """
    model, categories = load_detector(network, weights, categories)
    return write_scores(paths, out, lambda path: image_scores(model, open_image(path), categories))


def detect_as_exported(params: Params, paths: Iterable[str], out: Path) -> int:
    """Write the SCORES of `paths` by the detector of `paths.detector`, as the exported model will use it.

    Its names are labels: the source has `vocabulary: taxonomy`.  Raises ModelError and SourceError.
    """
    settings, folder = params.export.detector, params.paths.detector
    if settings is None:
        raise ModelError(
            "params.yaml: export.detector is null. Say there how the detector takes pixels (docs/export.md)."
        )
    detector = open_detector(folder, settings.model_dump(exclude={"origin"}))
    classes = read_classes(folder / CLASSES, detector.names, read_taxonomy(params.paths.taxonomy).ids)
    return write_scores(paths, out, lambda path: detector.look(path, stored_pixels, classes))


def write_scores(paths: Iterable[str], out: Path, scores_of: Callable[[str], Mapping[str, float]]) -> int:
    """Write the SCORES that `scores_of` a path gives; how many images it could read, the others are logged."""
    rows, num_images = [], 0
    for path in paths:
        try:
            scores = scores_of(path)
        except SourceError as error:
            logger.warning("%s", error)
            continue
        num_images += 1
        rows += [{"image_id": Path(path).name, "label": label, "score": score} for label, score in scores.items()]
    if not num_images:
        raise SourceError("detect: no image could be read. Name files, folders or globs.")
    tables.write_table(out, pa.Table.from_pylist(rows, schema=SCORES))
    return num_images


def load_detector(network: str, weights: Path, categories: Sequence[str] | None) -> tuple[nn.Module, Sequence[str]]:
    """The detector in evaluation mode, and its category names."""
    from safetensors.torch import load_file

    known = list_models(detection_models)
    if network not in known:
        raise ModelError(f"detect: torchvision has no detector '{network}'. {did_you_mean(network, known)}")
    if categories is None:
        categories = get_model_weights(network).DEFAULT.meta["categories"]
    model = get_model(network, weights=None, weights_backbone=None, num_classes=len(categories))
    try:
        model.load_state_dict(load_file(weights))
    except (OSError, RuntimeError, ValueError) as error:
        cause = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{weights}: not the weights of {network} with {len(categories)} categories ({cause}). "
            "Save its state dict as .safetensors."
        ) from error
    return model.eval(), categories


@torch.inference_mode()
def image_scores(model: nn.Module, image: Image.Image, categories: Sequence[str]) -> Mapping[str, float]:
    """Best box score of each detected category, in [0, 1], sorted by name."""
    (boxes,) = model([pil_to_tensor(image).float() / 255])
    best: dict[str, float] = {}
    for index, score in zip(boxes["labels"].tolist(), boxes["scores"].tolist(), strict=True):
        if (name := categories[index]) not in NOT_A_LABEL:
            best[name] = max(score, best.get(name, 0.0))
    return dict(sorted(best.items()))


def command(
    paths: Annotated[list[str], typer.Argument(help="files, folders or globs")],
    out: Annotated[Path, typer.Option(help="Parquet file for a source of `kind: predictions`")],
    weights: Annotated[Path | None, typer.Option(help="torchvision: state dict of the network, .safetensors")] = None,
    network: Annotated[str, typer.Option(help="a detection model of torchvision")] = "fasterrcnn_resnet50_fpn_v2",
    categories: Annotated[Path | None, typer.Option(help="names by class index, one a line, background first")] = None,
) -> None:
    """A detector's scores of whole images, to be fused with the model's; without --weights `export.detector`'s.

    Example: python -m tasks detect images --out x.parquet
    """
    images = list_images(paths)
    if weights is None:
        num_images = detect_as_exported(load_params(), images, out)
    else:
        names = read_lines(categories) if categories else None
        num_images = detect(network, weights, images, out, open_image=open_rgb, categories=names)
    typer.echo(f"{out} written from {num_images} images")
