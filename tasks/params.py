"""params.yaml, typed once: frozen, unknown keys refused, ranges checked. The only reader of that file.

What names an entry of a registry is a Choice (tasks/core/registry.py), whose options are checked when it is built;
this module stays free of torch and every other package of the domain, so that `python -m tasks --help` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks.core.errors import ParamsError, did_you_mean
from tasks.core.names import unfit
from tasks.core.registry import Choice

PARAMS_FILE = Path("params.yaml")

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


def _check_source_name(name: str) -> str:
    if wrong := unfit(name) or ("holds one of / \\ @" if set(name) & set("/\\@") else ""):
        raise ValueError(f"the name {wrong}, but names a folder and a stage. Rename the source")
    return name


SourceName = Annotated[str, Field(min_length=1), AfterValidator(_check_source_name)]


class Section(BaseModel):
    """Base of all sections: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Paths(Section):
    """Where each file that crosses a stage lives, relative to the repository root. dvc.yaml reads the same entries."""

    code: Path
    raw: Path
    taxonomy: Path
    detector: Path
    verdicts: Path
    duplicate_verdicts: Path
    truth: Path
    ingested: Path
    mapped: Path
    coverage_report: Path
    deduplicated: Path
    duplicates_report: Path
    splits: Path
    folds: Path
    shards: Path
    pretrained: Path
    start: Path
    out_of_fold: Path
    cleaned: Path
    cleaning_report: Path
    replication: Path
    resampling_report: Path
    finetuned: Path
    learning_curves: Path
    predictions: Path
    thresholds: Path
    headline: Path
    metrics: Path
    evaluation: Path
    exported: Path
    export_report: Path
    variants: Path
    report: Path
    model_card: Path
    accepted: Path
    gate: Path
    ledger: Path


class Source(BaseModel):
    """One entry of `sources:`; keys beyond these are options of the reader named by `kind` (tasks/sources)."""

    model_config = ConfigDict(frozen=True, extra="allow")
    kind: str
    path: Path
    use: Literal["train", "pretrain", "pool", "proposals"] = "train"
    vocabulary: str = ""  # key under `from:` in the taxonomy; the kind when empty; `taxonomy`: the names are its ids

    @model_validator(mode="before")
    @classmethod
    def _named_after_the_kind(cls, raw: Any) -> Any:
        """An empty vocabulary becomes the kind."""
        return {**raw, "vocabulary": raw.get("vocabulary") or raw.get("kind", "")} if isinstance(raw, dict) else raw

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Download(BaseModel):
    """One entry of `download:`; keys beyond these are options of the downloader named by `kind` (tasks/sources)."""

    model_config = ConfigDict(frozen=True, extra="allow")
    kind: str
    path: Path

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class MakeDemo(Section):
    """The embedded data sets to write under paths.raw before anything is read."""

    sets: dict[str, dict[str, Any]]


class Ingest(Section):
    max_pixels: Count
    max_seconds: Annotated[int, Field(ge=1, le=3600)]
    max_memory_mb: Annotated[int, Field(ge=64)]
    animated: Literal["first_frame", "quarantine"]
    min_usable_share: Fraction


class MapLabels(Section):
    propagate_positives: bool
    propagate_negatives: bool
    unmapped: Literal["report", "refuse"]


class Deduplicate(Section):
    radius: Annotated[int, Field(ge=0, le=16)]
    resolve: Literal["exact", "near"]
    conflict: Literal["unknown", "present", "majority"]


class Split(Section):
    num_folds: Annotated[int, Field(ge=2, le=1000)]
    test_folds: list[int]
    calibration_folds: list[int]
    official_test: bool
    official_val: bool

    @model_validator(mode="after")
    def _folds_exist(self) -> Split:
        for fold in [*self.test_folds, *self.calibration_folds]:
            if not 0 <= fold < self.num_folds:
                raise ValueError(
                    f"fold {fold} does not exist; num_folds is {self.num_folds}, so folds are 0..{self.num_folds - 1}"
                )
        if set(self.test_folds) & set(self.calibration_folds):
            raise ValueError("test_folds and calibration_folds must not overlap")
        return self


class Shard(Section):
    short_side_px: Annotated[int, Field(ge=8, le=4096)]
    encoding: Literal["jpeg", "raw"]
    quality: Annotated[int, Field(ge=1, le=100)]
    images_per_file: Count

    @property
    def jpeg_quality(self) -> int | None:
        """Of the stored JPEGs; None where raw pixels are stored."""
        return self.quality if self.encoding == "jpeg" else None


class Backbone(Section):
    name: str
    weights: str | None
    options: dict[str, Any]
    freeze_batchnorm: bool


class Model(Section):
    """Shared by pretrain, out_of_fold and finetune, so that their weights fit each other."""

    image_px: Annotated[list[Annotated[int, Field(ge=8, le=4096)]], Field(min_length=2, max_length=2)]
    resize: Literal["stretch", "letterbox", "crop"]
    backbone: Backbone
    head: Choice
    head_init: Literal["own", "xavier"]


class Loss(Choice):
    class_weights: Literal["none", "inverse", "effective_number"] = "none"
    """How much each label's cost counts, by its known positives: tasks/nn/losses/class_weights.py."""


class Sam(Section):
    enabled: bool
    rho: Positive
    adaptive: bool
    start_epoch: Annotated[int, Field(ge=0)] = 0


class Ema(Section):
    enabled: bool
    decay: Fraction


class EarlyStopping(Section):
    rule: Literal["none", "paper", "otx"]
    patience: Count


class Training(Section):
    """One training run; pretrain and finetune each have one, out_of_fold borrows finetune's."""

    epochs: Count
    batch_size: Count
    accumulate: Count
    loss: Loss
    optimizer: Choice
    schedule: Choice
    lr: Positive
    weight_decay: NonNegative
    no_bias_decay: bool
    bias_lr_factor: Positive
    backbone_lr_factor: NonNegative = 1.0
    sam: Sam
    ema: Ema
    clip_grad_norm: NonNegative
    precision: Literal["fp32", "bf16", "fp16"]
    channels_last: bool
    compile: bool
    augment: list[dict[str, Any]]
    early_stopping: EarlyStopping
    checkpoint_every_steps: Count


class Pretrain(Training):
    enabled: bool


class Finetune(Training):
    resample: bool
    """Repeat images by r(I) of the `resample` stage."""
    labelled_per_class: Annotated[int, Field(ge=0)]
    probe: bool = False
    """Fit the head on frozen features before the first epoch."""
    semi: Choice


class OutOfFold(Section):
    enabled: bool | Literal["auto"]
    """auto: where thresholds are cross-fitted (`calibrate.cross_fit_below`)."""
    num_folds: Annotated[int, Field(ge=2, le=20)]
    epochs: Count


class Clean(Section):
    enabled: bool
    policy: Choice
    calibration: Literal["verdicts", "policy"]  # who may change labels of calibration images


class Resample(Section):
    enabled: bool
    sampler: Choice


class Predict(Section):
    batch_size: Count


class Calibrate(Section):
    rule: Choice
    fit_on: Literal["calibration", "train"]
    probabilities: Literal["none", "platt", "temperature", "isotonic"]
    apply_relations: bool
    min_support: Annotated[int, Field(ge=0)]
    shrinkage: NonNegative
    bootstrap: Annotated[int, Field(ge=0)]
    cross_fit_below: Annotated[int, Field(ge=0)] = 0


def cross_fits(section: Calibrate, num_calibration: int) -> bool:
    """Whether so few calibration images call for out-of-fold scores of the train images beside them."""
    return section.fit_on == "calibration" and num_calibration < section.cross_fit_below


class Evaluate(Section):
    protocol: str
    partition: Literal["test", "calibration", "train"]
    bootstrap: Annotated[int, Field(ge=0)]


class Gate(Section):
    metric: Literal["mAP", "OF1", "CF1", "image_F1"]
    tolerance: NonNegative


Side = Annotated[int, Field(ge=8, le=4096)]


class ShippedDetector(Section):
    """The detector of paths.detector, exported beside the model, and the pixels that it takes: docs/export.md."""

    origin: Annotated[str, Field(pattern=r"^(vendor|detector):.+$")]
    image_px: tuple[Side, Side]
    resize: Literal["stretch", "letterbox", "crop"]
    layout: Literal["chw", "hwc"]
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]


class Export(Section):
    opset: Annotated[int, Field(ge=17)]
    tolerance: Positive
    parity_images: Count
    variants: list[Literal["fp16", "int8", "openvino"]]
    quantisation_images: Count
    detector: ShippedDetector | None = None


class Report(Section):
    title: str
    worst_mistakes: Annotated[int, Field(ge=0)]
    mistakes_of_a_label: Annotated[int, Field(ge=1)]
    label_pictures: Annotated[int, Field(ge=0)]


class Review(Section):
    budget: Annotated[int, Field(ge=0)]
    audit_share: Fraction
    dataset: str
    port: Annotated[int, Field(ge=1, le=65535)]


class Params(Section):
    """All of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]  # NumPy's older generators take no more
    paths: Paths
    sources: dict[SourceName, Source]
    download: dict[str, Download]
    make_demo: MakeDemo
    ingest: Ingest
    map_labels: MapLabels
    deduplicate: Deduplicate
    split: Split
    shard: Shard
    model: Model
    pretrain: Pretrain
    out_of_fold: OutOfFold
    clean: Clean
    resample: Resample
    finetune: Finetune
    predict: Predict
    calibrate: Calibrate
    evaluate: Evaluate
    export: Export
    report: Report
    gate: Gate
    review: Review


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml. Raises ParamsError: the key, what was found, what is expected."""
    if not path.exists():
        raise ParamsError(f"{path}: no such file. Run commands from the repository root.")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: not UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = f":{line + 1}" if line is not None else ""
        problem = str(getattr(error, "problem", error)).partition("\n")[0]
        raise ParamsError(f"{path}{at}: not valid YAML ({problem}).") from error
    return parse_params(raw, where=str(path))


def parse_params(raw: object, *, where: str = "params.yaml") -> Params:
    """Params from the parsed YAML. Raises ParamsError naming the first wrong key (and how many more there are)."""
    if not isinstance(raw, dict):
        raise ParamsError(f"{where}: expected a mapping of sections, found {type(raw).__name__}.")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ParamsError(_one_line(error, where)) from error


def _one_line(error: ValidationError, where: str) -> str:
    problems = error.errors()
    # An unknown key is most often the misspelling behind a missing one: tell it first.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    key = ".".join(str(part) for part in problem["loc"])
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        name, known = str(problem["loc"][-1]), _known_keys(problem["loc"][:-1])
        return f"{where}: {key}: unknown key. {did_you_mean(name, known)}{more}"
    if problem["type"] == "missing":
        return f"{where}: {key}: missing. Add it; `git show HEAD:params.yaml` has the default.{more}"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem.get("input")
    shown = "" if isinstance(value, (dict, list, BaseModel)) else f", found {value!r}"
    return f"{where}: {key}: {message}{shown}.{more}"


def _known_keys(location: tuple) -> list[str]:
    """Field names of the section at `location`."""
    model: Any = Params
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = field.annotation
    return list(getattr(model, "model_fields", {}))
