"""Any timm model as a feature extractor; the only import of timm.

Axes: B images, H W pixels or positions of the map, F channels.

Weights are safetensors only: a file, a timm tag (from the local Hugging Face cache or the hub), or none.
"""

from __future__ import annotations

import json
import logging
import math
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm

from tasks.core.errors import ModelError, did_you_mean

logger = logging.getLogger(__name__)

HEAD_ONLY = frozenset(
    {
        "classifier",
        "conv_head",
        "norm_head",
        "fc",
        "fc_norm",
        "head",
        "head_dist",
        "pre_logits",
        "attn_pool",
        "last_linear",
    }
)
"""Children of timm models that may serve the classifier alone; dropped where `forward_features` does not call them."""


class Backbone(nn.Module):
    """A timm model cut before its classifier: normalised images (B, 3, H, W) -> feature map (B, F, h, w).

    num_features: F.  mean, std: what its weights expect of RGB in [0, 1], one value a channel.
    name: timm architecture (without tag).  options: keyword arguments of timm.create_model that shaped it.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        mean: Sequence[float],
        std: Sequence[float],
        options: Mapping[str, Any],
        image_px: tuple[int, int],
    ) -> None:
        super().__init__()
        self.net = net
        self.name, self.options = name, dict(options)
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.batchnorm_frozen = False
        with _unused_head_dropped(net):
            self.num_features = self.feature_size(image_px)[0]

    def forward(self, images_BCHW: Tensor) -> Tensor:
        features = self.net.forward_features(images_BCHW)
        if features.ndim == 3:
            tokens_BTF = features[:, getattr(self.net, "num_prefix_tokens", 0) :]
            height, width = token_grid(tokens_BTF.shape[1], images_BCHW.shape[2], images_BCHW.shape[3])
            return tokens_BTF.transpose(1, 2).unflatten(2, (height, width))
        # Swin and its kin say that their maps are (B, h, w, F).
        return features.permute(0, 3, 1, 2) if getattr(self.net, "output_fmt", "NCHW") == "NHWC" else features

    def feature_size(self, image_px: tuple[int, int]) -> tuple[int, int, int]:
        """(F, h, w) for images of (height, width) px, without computing anything.

        Raises ModelError when the network cannot take that size.
        """
        was_training = self.training
        self.eval()
        try:
            with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
                features_BFHW = self(torch.empty(1, 3, *image_px, device=next(self.parameters()).device))
            return tuple(features_BFHW.shape[1:])
        except Exception as error:
            # timm asserts, torch raises RuntimeError or IndexError: whatever it is, this size does not pass.
            raise ModelError(
                f"backbone {self.name}: cannot take images of {image_px[0]}x{image_px[1]} px ({_first_line(error)}). "
                "Change model.image_px, or set model.backbone.options.img_size where the model has it."
            ) from error
        finally:
            self.train(was_training)

    def train(self, mode: bool = True) -> Backbone:
        """As usual, except that frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.batchnorm_frozen:
            for module in _batchnorms(self):
                module.eval()
        return self


def freeze_batchnorm(backbone: Backbone) -> None:
    """Keep statistics, scale and shift of every batch norm as they are; survives `train()`. For little data."""
    backbone.batchnorm_frozen = True
    for module in _batchnorms(backbone):
        module.eval()
        for parameter in (module.weight, module.bias):
            if parameter is not None:
                parameter.requires_grad_(False)


def freeze(backbone: Backbone) -> None:
    """Keep the whole backbone as it is, batch norms included, so that the head learns alone."""
    freeze_batchnorm(backbone)
    backbone.requires_grad_(False)


def token_grid(num_tokens: int, height: int, width: int) -> tuple[int, int]:
    """(h, w) with h * w = num_tokens and the aspect ratio nearest to that of the image."""
    divisors = [h for h in range(1, num_tokens + 1) if num_tokens % h == 0]
    h = min(divisors, key=lambda h: abs(math.log(h * h / num_tokens * width / height)))
    return h, num_tokens // h


# ---------------------------------------------------------------- building


def build_backbone(
    name: str, *, weights: str | None, options: Mapping[str, Any], image_px: tuple[int, int] | None = None
) -> Backbone:
    """The timm model `name` as a Backbone.

    weights: None (random), "timm" (the model's default tag), a tag ("in21k" or "tf_efficientnetv2_s.in21k"), or the
        path of a .safetensors file; everything but the classifier must fit.
    options: keyword arguments of timm.create_model (pad_type, img_size, drop_path_rate, …), and `mean`, `std`, which
        override those that come with the weights (their tag, or a JSON of the same name beside the file).
    image_px: (height, width) of the images to come; checked, and the img_size of models that are built for one size.
    Raises ModelError: unknown name, tag or option, weights missing or of another shape, a size the model cannot take.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ModelError(f"model.backbone.name: timm has no '{name}'. {did_you_mean(architecture, timm.list_models())}")
    own = {key: options[key] for key in ("mean", "std") if key in options}
    arguments = {key: value for key, value in options.items() if key not in own}
    config = dict(timm.get_pretrained_cfg(architecture).to_dict())
    if image_px is not None and config.get("fixed_input_size"):
        arguments.setdefault("img_size", tuple(image_px))

    if weights is None:
        net = _create(architecture, arguments, num_classes=0)
    else:
        path, config = _locate(architecture, weights, tag, config)
        config = {**config, **_normalisation_beside(path)}
        net = _create_loaded(architecture, arguments, path, config)
    normalisation = {"mean": config["mean"], "std": config["std"], **own}
    size = image_px or arguments.get("img_size") or config["input_size"][1:]
    return Backbone(
        net,
        name=architecture,
        **normalisation,
        options=arguments,
        image_px=(size, size) if isinstance(size, int) else size,
    )


def _create(architecture: str, arguments: Mapping[str, Any], **more: Any) -> nn.Module:
    try:
        return timm.create_model(architecture, **arguments, **more)
    except TypeError as error:
        raise ModelError(
            f"model.backbone.options: timm's {architecture} refuses them ({_first_line(error)}). Correct them."
        ) from error
    except (AssertionError, ValueError) as error:
        raise ModelError(
            f"model.backbone: timm cannot build {architecture} with {dict(arguments)} ({_first_line(error)})."
        ) from error


def _create_loaded(architecture: str, arguments: Mapping[str, Any], path: Path, config: Mapping[str, Any]) -> nn.Module:
    """The model with every tensor of the file in it, then cut."""
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({_first_line(error)}).") from error
    classifier = config.get("classifier") or ""
    classifier = classifier if isinstance(classifier, str) else classifier[0]
    weight = state.get(f"{classifier}.weight")
    # Built with as many classes as the file has, so that timm loads it strictly; 0 for a file without a classifier.
    num_classes = 0 if weight is None else len(weight)
    overlay = {"state_dict": state, "num_classes": num_classes, "label_offset": 0}
    try:
        net = _create(architecture, arguments, num_classes=num_classes, pretrained=True, pretrained_cfg_overlay=overlay)
    except (RuntimeError, KeyError) as error:
        raise ModelError(
            f"{path}: these weights do not fit timm's {architecture}: {_first_mismatch(error)}."
        ) from error
    net.reset_classifier(0)
    net.pretrained_cfg = {k: v for k, v in net.pretrained_cfg.items() if k != "state_dict"}  # frees the second copy
    return net


@contextmanager
def _unused_head_dropped(net: nn.Module) -> Iterator[None]:
    """Replace, after the block, the classifier parts that it did not call: no gradient would reach them."""
    called: set[str] = set()
    candidates = {name: child for name, child in net.named_children() if name in HEAD_ONLY}
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
        for name, child in candidates.items()
        for module in child.modules()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    for name in candidates.keys() - called:
        setattr(net, name, nn.Identity())


def _batchnorms(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, _BatchNorm)]


# ---------------------------------------------------------------- finding weights


def _locate(architecture: str, weights: str, tag: str, config: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The file that `weights` means, and the timm configuration that goes with it."""
    path = Path(weights)
    if path.suffix == ".safetensors" or path.exists():
        if not path.is_file():
            raise ModelError(
                f"model.backbone.weights: {path}: no such file. Put the weights there, or set weights: null."
            )
        return path, config
    if path.suffix in (".pth", ".pt", ".bin", ".ckpt", ".tar"):
        raise ModelError(
            f"model.backbone.weights: {path}: only .safetensors files are read, nothing is unpickled. Convert it first."
        )
    named = weights.removeprefix(architecture).lstrip(".")
    named = tag if named == "timm" else named
    tagged = f"{architecture}.{named}" if named else architecture
    known = [n.partition(".")[2] for n in timm.list_pretrained(f"{architecture}.*")]
    if not known:
        raise ModelError(
            f"model.backbone.weights: timm has none for {architecture}. Set weights: null, or to a .safetensors file."
        )
    if named and named not in known:
        raise ModelError(f"model.backbone.weights: {architecture} has no tag '{named}'. {did_you_mean(named, known)}")
    config = dict(timm.get_pretrained_cfg(tagged).to_dict())
    return _download(config), config


def _download(config: Mapping[str, Any]) -> Path:
    """The safetensors file of a timm tag from the local cache, or from the hub."""
    # Imported only where a tag is asked for: it takes time.
    from huggingface_hub import hf_hub_download

    tagged = f"{config['architecture']}.{config['tag']}"
    repository, _, revision = str(config.get("hf_hub_id") or "").partition("@")
    filename = Path(config.get("hf_hub_filename") or "model.safetensors").with_suffix(".safetensors").name
    try:
        # The hub's client retries an unknown host for half a minute.
        return Path(
            hf_hub_download(repository, filename, revision=revision or None, local_files_only=not _hub_has_address())
        )
    except Exception as error:  # offline, unreachable, unknown repository: the remedy is the same
        raise ModelError(
            f"model.backbone.weights: {tagged} is not in the local cache and cannot be downloaded "
            f"({type(error).__name__}). Fetch {filename} of {repository} from the hub elsewhere and set weights: to "
            "its path, or set weights: null."
        ) from error


def _hub_has_address() -> bool:
    from huggingface_hub.constants import ENDPOINT

    try:
        return bool(getproxies() or socket.getaddrinfo(urlsplit(ENDPOINT).hostname, None))
    except OSError:
        return False


def _normalisation_beside(path: Path) -> dict[str, Any]:
    """mean and std from the JSON that stands beside a weights file, {} when there is none.

    `<name>.json` or `config.json`, with `mean` and `std` at the top or under `pretrained_cfg`, as the hub has them.
    """
    for beside in (path.with_suffix(".json"), path.with_name("config.json")):
        if beside.is_file():
            content = json.loads(beside.read_text(encoding="utf-8"))
            content = {**content, **content.get("pretrained_cfg", {})}
            return {key: content[key] for key in ("mean", "std") if key in content}
    return {}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _first_mismatch(error: BaseException) -> str:
    """The first tensor that torch complains of, in one line."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    complaint = lines[1] if len(lines) > 1 else _first_line(error)
    return re.sub(r'(".*?"), .*', r"\1, …", complaint)  # of all missing keys, the first
