"""The network that the pipeline trains, saves and serves: backbone, head, labels, and how logits become probabilities.

Axes: B images, C labels, F channels, H W pixels.

A saved model is a folder of two files: model.safetensors (weights) and model.json (everything needed to build it again,
and the hash of the weights it belongs to).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tasks.core.atomic_files import atomic_path
from tasks.core.errors import ModelError
from tasks.core.tables import sha256_of, write_text
from tasks.nn.backbone import Backbone, build_backbone
from tasks.nn.cooccurrence import Cooccurrence
from tasks.nn.heads import HEADS
from tasks.nn.heads.base import Head, full_precision
from tasks.nn.losses import LOSSES
from tasks.nn.losses.base import MultiLabelLoss

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "model.json"
SAVED_KEYS = frozenset(
    {"labels", "backbone", "head", "image_px", "resize", "mean", "std", "logit_scale", "groups", "weights_sha256"}
)


class Tagger(nn.Module):
    """RGB images (B, 3, H, W), uint8 in [0, 255] or already normalised floats -> logits (B, C).

    labels: names of the C columns.  logit_scale: probabilities are sigmoid(logit_scale * logit); the loss says which.
    groups: columns of each label group that is a softmax instead; empty unless trained with group_softmax.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        *,
        labels: Sequence[str],
        logit_scale: float = 1.0,
        groups: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.labels = list(labels)
        self.logit_scale = float(logit_scale)
        self.groups = [list(group) for group in groups]
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.head(self.backbone(self.normalised(images_BCHW)))

    def normalised(self, images_BCHW: Tensor) -> Tensor:
        """uint8 pixels scaled and shifted as the backbone's weights expect; floats come back as they are."""
        if images_BCHW.dtype != torch.uint8:
            return images_BCHW
        return (images_BCHW.float() / 255 - self.mean) / self.std

    def forward_with_features(self, images_BCHW: Tensor, *, num_scored: int | None = None) -> tuple[Tensor, Tensor]:
        """Logits of the first `num_scored` images (None: all) and the pooled features (B, F) of all, in one pass."""
        features_BFHW = self.backbone(self.normalised(images_BCHW))
        return self.head(features_BFHW[:num_scored]), features_BFHW.mean((2, 3))

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """Global average of the feature map, (B, F)."""
        return self.backbone(self.normalised(images_BCHW)).mean((2, 3))

    def scores(self, logits_BC: Tensor) -> Tensor:
        """Probabilities (B, C) in single precision."""
        with full_precision(logits_BC):
            scaled_BC = self.logit_scale * logits_BC.float()
            scores_BC = torch.sigmoid(scaled_BC)
            for group in self.groups:
                columns = torch.tensor(group, device=scaled_BC.device)
                shares_BG = scaled_BC.index_select(1, columns).softmax(1)
                scores_BC = scores_BC.index_copy(1, columns, shares_BG)
            return scores_BC


def xavier_init(module: nn.Module, *, generator: torch.Generator | None = None) -> None:
    """Draw every matrix of `module` anew from Xavier's uniform distribution; biases become 0, norms stay.

    For new layers on a trained backbone. A buffer (ML-Decoder's queries) is no weight and stays too.
    Source: Glorot and Bengio, AISTATS 2010.
    """
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter, generator=generator)
        elif name.rpartition(".")[2].startswith(("bias", "in_proj_bias")):
            nn.init.zeros_(parameter)


# ---------------------------------------------------------------- what fits what


def check_fit(head: Head, loss: MultiLabelLoss) -> None:
    """Raise ModelError when one speaks cosines and the other logits."""
    if head.angular == loss.angular:
        return
    head_name, loss_name = _registered(head, HEADS), _registered(loss, LOSSES)
    if loss.angular:
        raise ModelError(
            f"loss {loss_name} needs cosines, head {head_name} gives logits. "
            "Use head angular_linear, set the head's option angular: true, or choose loss asl or bce."
        )
    raise ModelError(
        f"head {head_name} gives cosines, loss {loss_name} needs logits. "
        "Use loss aam or am_binary, or a head that is not angular."
    )


def _registered(thing: nn.Module, registry: Mapping[str, type]) -> str:
    return next((name for name, kind in registry.items() if type(thing) is kind), type(thing).__name__)


# ---------------------------------------------------------------- carrying weights over


def transfer_head(old_state: Mapping[str, Tensor], old_labels: Sequence[str], new_model: Tagger) -> list[str]:
    """Carry the head of another vocabulary into `new_model`, label by label, by name; returns the labels carried.

    old_state: state dict of the old Tagger.  old_labels: its labels.
    The layers that all labels share come along; labels the old model does not know keep their fresh weights. A head of
    another kind or width carries nothing.
    """
    head_state = {n.removeprefix("head."): value for n, value in old_state.items() if n.startswith("head.")}
    old_index = {label: i for i, label in enumerate(old_labels)}
    pairs = [(old_index[label], i) for i, label in enumerate(new_model.labels) if label in old_index]
    carried = set(new_model.head.carry_over(head_state, pairs))
    return [label for i, label in enumerate(new_model.labels) if i in carried]


def start_from(model: Tagger, path: Path) -> list[str]:
    """Put the weights of a saved model into `model`: the whole backbone, and the head as `transfer_head` does.

    Returns the labels carried. Raises ModelError when the backbones differ.
    """
    config, state = _read(Path(path))
    backbone_state = {n.removeprefix("backbone."): value for n, value in state.items() if n.startswith("backbone.")}
    try:
        model.backbone.load_state_dict(backbone_state)
    except RuntimeError as error:
        raise ModelError(
            f"{path}: its backbone is {config['backbone']['name']}, this model's is {model.backbone.name} with other "
            "options or layers. Use the same model section for both, or turn pre-training off."
        ) from error
    return transfer_head(state, config["labels"], model)


# ---------------------------------------------------------------- saving and loading


def save_model(path: Path, model: Tagger, config: Mapping[str, Any]) -> None:
    """Write the folder `path`, atomically and byte for byte the same for the same weights.

    config: `head` {name, options}, `image_px` [height, width], `resize`, and whatever else should travel along (JSON).
    The rest (labels, backbone, mean, std, logit_scale, groups) is the model's own.
    """
    path = Path(path)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    path.mkdir(parents=True, exist_ok=True)
    with atomic_path(path / WEIGHTS_FILE) as temporary:
        save_file(state, temporary)
    backbone = model.backbone
    content = {
        **config,
        "labels": model.labels,
        "backbone": {"name": backbone.name, "options": backbone.options},
        "mean": backbone.mean,
        "std": backbone.std,
        "logit_scale": model.logit_scale,
        "groups": model.groups,
        "weights_sha256": sha256_of(path / WEIGHTS_FILE),
    }
    # Not tables.write_json: it rounds, and mean, std and scale must come back as they were.
    write_text(path / CONFIG_FILE, json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False) + "\n")


def load_model(path: Path) -> Tagger:
    """The model that `save_model` wrote, in evaluation mode, on the CPU.

    Raises ModelError when a file is missing, damaged, or from another save.
    """
    path = Path(path)
    config, state = _read(path)
    backbone = build_backbone(
        config["backbone"]["name"],
        weights=None,
        options={**config["backbone"]["options"], "mean": config["mean"], "std": config["std"]},
        image_px=tuple(config["image_px"]),
    )
    labels = config["labels"]
    head_class, options = HEADS[config["head"]["name"]], config["head"]["options"]
    context = {
        "cooccurrence": Cooccurrence.placeholder(len(labels)),
        "label_names": labels,
        "node_vectors": state.get("head.label_graph.nodes_CD"),
    }
    accepted = inspect.signature(head_class).parameters
    head = head_class(
        backbone.num_features, len(labels), **{k: v for k, v in context.items() if k in accepted}, **options
    )
    model = Tagger(backbone, head, labels=labels, logit_scale=config["logit_scale"], groups=config["groups"])
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"{path}: weights and {CONFIG_FILE} do not fit each other. Run the stage that made it again."
        ) from error
    return model.eval()


def load_config(path: Path) -> dict[str, Any]:
    """What stands in a saved model's model.json."""
    try:
        return json.loads((Path(path) / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: no model there ({CONFIG_FILE} missing or damaged). Run the stage that makes it."
        ) from error


def model_sha256(path: Path) -> str:
    """Hash of a saved model: weights (through the hash in model.json) and everything said about them."""
    return sha256_of(Path(path) / CONFIG_FILE)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config = load_config(path)
    absent = sorted(SAVED_KEYS - config.keys())
    if absent:
        raise ModelError(f"{path / CONFIG_FILE}: lacks {', '.join(absent)}. Run the stage that makes it again.")
    weights = path / WEIGHTS_FILE
    if not weights.is_file() or sha256_of(weights) != config["weights_sha256"]:
        raise ModelError(
            f"{weights}: missing, or not the weights that {CONFIG_FILE} describes. Run the stage that makes it again."
        )
    try:
        return config, load_file(weights)
    except SafetensorError as error:
        raise ModelError(f"{weights}: not a readable safetensors file ({error}).") from error
