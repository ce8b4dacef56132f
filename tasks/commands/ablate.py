"""Does each component of the recipe earn its place on this project's own data?

Every step of the ablation is trained with every seed, on the tables, split and shards that the stages left, by the code
of `finetune`; weights and learning rates are chosen on the calibration partition, and what is compared is the mAP on
the partition that `evaluate` names. Each run is written when it is done, and a run that is there and follows from the
same inputs is not made again; editing the code does not count as another input.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from tasks.commands.recipe import merge, read_recipe
from tasks.core import tables
from tasks.core.errors import ParamsError, TagwrightError
from tasks.core.workspace import Workspace
from tasks.evaluation.ablation import ABLATIONS, AblationStep, markdown, measure_ablation, read_steps
from tasks.evaluation.scored_run import ScoredRun, read_scored_run, write_scored_run
from tasks.metrics.protocols import protocol_named
from tasks.nn.model import Tagger, model_sha256
from tasks.params import PARAMS_FILE, Params, load_params, parse_params
from tasks.sampling.replication import replication_of
from tasks.training import checkpoint
from tasks.training.finetuning import FinetuneData, finetune_once
from tasks.training.fitting import CHECKPOINTS, Network, build_model, has_model, score_images

REPORTS = Path("data/reports/ablation")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """A step with the params that it trains under. what: the step in words."""

    name: str
    what: str
    params: Params


def ablate(
    recipe: str,
    ablation: str,
    *,
    num_seeds: int,
    learning_rates: Sequence[float],
    skip: Sequence[str],
    num_resamples: int,
) -> str:
    """Run the ablation and return its table, which is also under REPORTS/recipe/ablation as ablation.md and .json.

    ablation: file name under recipes/ablations.
    num_seeds: runs of each step, with the seeds params.seed, params.seed + 1, …
    learning_rates: all are tried by each step with the first seed, and the one with the best mAP on the calibration
        partition serves its other seeds; empty: each step's own.
    skip: steps to leave out.  num_resamples: for the intervals.
    The table is written whenever all steps have one more seed.
    Raises ParamsError or ModelError, before anything is trained, naming a step that cannot be built.
    """
    load_params()  # says first what is wrong with params.yaml itself
    base = merge(yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8")), read_recipe(recipe))
    path = ABLATIONS / f"{ablation}.yaml"
    settings = settings_of(base, read_steps(path, skip=skip), where=str(path))
    learning_rates = sorted(set(learning_rates))
    refuse_misfits(settings, learning_rates)
    folder, data = REPORTS / recipe / ablation, data_sha256(settings[0].params)
    progress = Progress(len(settings) * (max(len(learning_rates), 1) + num_seeds - 1))
    runs: dict[str, list[ScoredRun]] = {setting.name: [] for setting in settings}
    for seed in range(settings[0].params.seed, settings[0].params.seed + num_seeds):
        for setting in settings:
            earlier = runs[setting.name]
            rates = [earlier[0].stamp["lr"]] if earlier else learning_rates or [setting.params.finetune.lr]
            made = [run_of(folder, setting, data, lr=lr, seed=seed, progress=progress) for lr in rates]
            runs[setting.name].append(max(made, key=lambda run: run.stamp["val_mAP"] or 0.0))
        text = report(folder, settings, runs, num_resamples=num_resamples)
    return text


def settings_of(base: Mapping[str, Any], steps: Sequence[AblationStep], *, where: str) -> list[Setting]:
    """Params of each step: those of `base`, parsed as YAML, with the changes of this step and of all before it.

    where: the file, for messages. Raises ParamsError naming the step whose changes do not make valid params.
    """
    settings, raw = [], dict(base)
    for step in steps:
        raw = merge(raw, step.changes)
        params = parse_params(copy.deepcopy(raw), where=f"{where}: step '{step.name}'")
        settings.append(Setting(step.name, step.what, params))
    return settings


class Progress:
    """A log line a run: what it gave, and how many are left."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def advance(self, name: str, run: ScoredRun) -> None:
        self.done += 1
        score = run.stamp["val_mAP"]
        measured = "not measured" if score is None else f"{score:.4f}"
        logger.info("%d of %d: %s, mAP on calibration %s", self.done, self.total, name, measured)


def with_run(params: Params, *, lr: float, seed: int) -> Params:
    """Params of one run of a step."""
    return params.model_copy(update={"seed": seed, "finetune": params.finetune.model_copy(update={"lr": lr})})


def start_of(params: Params) -> Path | None:
    """The weights that a step starts from besides the backbone's own."""
    return params.paths.pretrained if params.pretrain.enabled else None


def network_of(params: Params) -> Network:
    """The network of `finetune`."""
    paths = params.paths
    vocabulary = Workspace(paths).vocabulary()
    return Network(params.model, vocabulary, paths.shards, paths.finetuned.parent / CHECKPOINTS, params.seed)


def data_of(params: Params) -> FinetuneData:
    """The labels that `finetune` reads."""
    settings, workspace = params.finetune, Workspace(params.paths)
    train_ids = workspace.image_ids("train")
    return FinetuneData(
        train=workspace.states("cleaned", train_ids),
        validation=workspace.states("cleaned", workspace.image_ids("calibration")),
        pool=None if settings.semi.name == "none" else workspace.states("cleaned", workspace.image_ids("pool")),
        replication_N=replication_of(workspace.read("replication"), train_ids) if settings.resample else None,
    )


def refuse_misfits(settings: Sequence[Setting], learning_rates: Sequence[float]) -> None:
    """Build every step's network once. Raises ParamsError or ModelError naming the step."""
    for lr in learning_rates:
        if lr <= 0:
            raise ParamsError(f"ablate: the learning rate must be greater than 0, found {lr:g}.")
    workspace = Workspace(settings[0].params.paths)
    states = workspace.states("cleaned", workspace.image_ids("train"))
    for setting in settings:
        name, start = setting.name, start_of(setting.params)
        if start is not None and not has_model(start):
            raise ParamsError(
                f"ablate: step '{name}': {start} holds no weights. Run `dvc repro pretrain` with a source "
                f"that has `use: pretrain`, or leave the step out with `--skip {name}`."
            )
        try:
            network, loss = network_of(setting.params), setting.params.finetune.loss
            build_model(network, loss, where="params.yaml: finetune.loss", states=states, start=start)
        except TagwrightError as error:
            raise type(error)(f"ablate: step '{name}': {error} `--skip {name}` leaves it out.") from error


def run_of(folder: Path, setting: Setting, data: str, *, lr: float, seed: int, progress: Progress) -> ScoredRun:
    """One run, from its file where it has been made of the same inputs, else trained, scored and written.

    data: see `data_sha256`.
    """
    params, name = with_run(setting.params, lr=lr, seed=seed), f"{setting.name}-lr{lr:g}-seed{seed}"
    path, inputs = folder / "runs" / f"{name}.parquet", inputs_sha256(params, data)
    run = read_scored_run(path) if path.exists() else None
    if run is None or run.stamp.get("inputs_sha256") != inputs:
        logger.info("%s: training", name)
        network, state = network_of(params), f"ablate-{folder.parent.name}-{folder.name}-{name}"
        tuned = finetune_once(network, params.finetune, data_of(params), state, start=start_of(params))
        best = tuned.result.best_score
        stamp = {
            "step": setting.name,
            "lr": lr,
            "seed": seed,
            "val_mAP": best if math.isfinite(best) else None,
            "inputs_sha256": inputs,
            "weights_kind": tuned.result.kind,
        }
        run = scored_run(params, network, tuned.model, stamp)
        write_scored_run(path, run)
        checkpoint.remove(network.checkpoints / state)
    progress.advance(name, run)
    return run


def data_sha256(params: Params) -> str:
    """Hash of the tables and images that every step trains on and is scored on."""
    paths, workspace = params.paths, Workspace(params.paths)
    files = [workspace.path(name) for name in ("splits", "mapped.coverage", "mapped.vocabulary")]
    files += [workspace.path("replication")] if params.finetune.resample else []
    files += [file for folder in (paths.cleaned, paths.shards) for file in sorted(folder.rglob("*")) if file.is_file()]
    return _sha256({str(file): tables.sha256_of(file) for file in files})


def inputs_sha256(params: Params, data: str) -> str:
    """Hash of all that a run follows from, but for the code."""
    start = start_of(params)
    return _sha256(
        {
            "data": data,
            "seed": params.seed,
            "model": params.model.model_dump(mode="json"),
            "finetune": params.finetune.model_dump(mode="json"),
            "evaluate": [params.evaluate.protocol, params.evaluate.partition],
            "start": model_sha256(start) if start else None,
        }
    )


def _sha256(inputs: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def scored_run(params: Params, network: Network, model: Tagger, stamp: Mapping[str, object]) -> ScoredRun:
    """The model's scores, as the network gives them, beside the labels of the evaluated partition."""
    section, workspace = params.evaluate, Workspace(params.paths)
    states = workspace.states("cleaned", workspace.image_ids(section.partition))
    states = states.take(states.has_known_labels())
    scores_NC = score_images(model, network.images(states), batch_size=params.predict.batch_size).scores_NC
    protocol = protocol_named(section.protocol)
    measured_how = protocol.stamp(
        image_ids=states.image_ids,
        labels=states.labels,
        absent_labels=[],
        threshold_rule=f"fixed {protocol.threshold:g}",
        weights_kind=str(stamp["weights_kind"]),
    )
    return ScoredRun(
        states.image_ids,
        states.labels,
        scores_NC,
        states.targets_NC,
        states.known_NC,
        np.full(len(states.labels), protocol.threshold),
        workspace.groups(states.image_ids),
        {**measured_how, "partition": section.partition, **stamp},
    )


def report(
    folder: Path, settings: Sequence[Setting], runs: Mapping[str, Sequence[ScoredRun]], *, num_resamples: int
) -> str:
    """Write ablation.json and ablation.md from the runs so far, the same seeds of every step; returns the Markdown."""
    rows = measure_ablation(runs, num_resamples=num_resamples)
    learning_rates = {name: of_step[0].stamp["lr"] for name, of_step in runs.items()}
    first, *others = runs[settings[0].name]
    seeds = [run.stamp["seed"] for run in (first, *others)]
    recipe, ablation = folder.parts[-2:]
    measured = {
        "recipe": recipe,
        "ablation": ablation,
        "protocol": first.stamp["name"],
        "partition": first.stamp["partition"],
        "num_images": len(first.image_ids),
        "num_labels": len(first.labels),
        "seeds": seeds,
        "learning_rates": learning_rates,
        "resamples": num_resamples,
    }
    tables.write_json(folder / "ablation.json", {**measured, "steps": rows})
    legend = "".join(f"- {setting.name}: {setting.what}\n" for setting in settings)
    text = (
        f"Recipe {recipe}, ablation {ablation}: mAP in percent on {len(first.image_ids)} images "
        f"({first.stamp['partition']}), {len(first.labels)} labels, protocol {first.stamp['name']}, "
        f"mean of {len(seeds)} seed(s).\n"
        f"Intervals: 95 %, {num_resamples} resamples of images and seeds, paired over steps; bold leaves out 0.\n\n"
        f"{markdown(rows, learning_rates)}\n{legend}"
    )
    tables.write_text(folder / "ablation.md", text)
    return text


def command(
    recipe: Annotated[str, typer.Argument(help="file name under recipes/, without .yaml; its data must be prepared")],
    ablation: Annotated[str, typer.Option(help="file name under recipes/ablations/, without .yaml")] = "paper",
    seeds: Annotated[int, typer.Option(min=1, help="runs of each step")] = 3,
    lr: Annotated[list[float] | None, typer.Option(help="learning rates that each step tries; may be repeated")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="a step to leave out; may be repeated")] = None,
    bootstrap: Annotated[int, typer.Option(min=1, help="resamples for 95 % intervals")] = 2000,
    ladder: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Which component of a recipe earns its place: baseline, +SAM, … +GAT over several seeds, compared in pairs.

    Example: python -m tasks ablate photos --ablation photographs --lr 0.003
    """
    if ladder is not None:
        raise ParamsError(f"ablate: --ladder is now called --ablation. Write --ablation {ladder}.")
    typer.echo(
        ablate(recipe, ablation, num_seeds=seeds, learning_rates=lr or [], skip=skip or [], num_resamples=bootstrap)
    )
