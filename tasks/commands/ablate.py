"""`python -m tasks ablate RECIPE`: does each component of the recipe earn its place on this project's own data?

Every rung of the ladder is trained with every seed, on the tables, split and shards that the stages left, by the code
of `finetune`; weights and learning rates are chosen on the calibration partition, and what is compared is the mAP on
the partition that `evaluate` names. Each run is written when it is done, and a run that is there and follows from the
same inputs is not made again; editing the code does not count as another input.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import yaml

from tasks.commands.recipe import merge, read_recipe
from tasks.core import tables
from tasks.core.errors import ParamsError, TagwrightError
from tasks.core.workspace import Workspace
from tasks.evaluation.ablation import LADDERS, AblationStep, ladder_rows, markdown, read_ladder
from tasks.evaluation.scored_run import ScoredRun, read_scored_run, write_scored_run
from tasks.metrics.bootstrap import resample
from tasks.metrics.protocols import protocol_named
from tasks.metrics.scored import Scored, mean_average_precision
from tasks.nn.model import Tagger, model_sha256
from tasks.params import PARAMS_FILE, Params, load_params
from tasks.stages.finetune import trained
from tasks.training import checkpoint
from tasks.training.fitting import build_model, checkpoint_dir, has_model, image_set, score_images

REPORTS = Path("data/reports/ablation")
logger = logging.getLogger(__name__)


def ablate(
    recipe: str,
    ladder: str,
    *,
    num_seeds: int,
    learning_rates: Sequence[float],
    skip: Sequence[str],
    num_resamples: int,
) -> str:
    """Climb the ladder and return the table, which is also under REPORTS/recipe/ladder as ladder.md and ladder.json.

    ladder: file name under recipes/ladders.
    num_seeds: runs of each rung, with the seeds params.seed, params.seed + 1, …
    learning_rates: all are tried by each rung with the first seed, and the one with the best mAP on the calibration
        partition serves its other seeds; empty: each rung's own.
    skip: rungs to leave out.  num_resamples: for the intervals.
    The table is written whenever all rungs have one more seed.
    Raises ParamsError or ModelError, before anything is trained, naming a rung that cannot be built.
    """
    load_params()  # says first what is wrong with params.yaml itself
    raw = merge(yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8")), read_recipe(recipe))
    rungs = read_ladder(raw, LADDERS / f"{ladder}.yaml", skip=skip)
    learning_rates = sorted(set(learning_rates))
    refuse_misfits(rungs, learning_rates)
    folder, data = REPORTS / recipe / ladder, data_sha256(rungs[0].params)
    progress = Progress(len(rungs) * (max(len(learning_rates), 1) + num_seeds - 1))
    runs: dict[str, list[ScoredRun]] = {rung.name: [] for rung in rungs}
    for seed in range(rungs[0].params.seed, rungs[0].params.seed + num_seeds):
        for rung in rungs:
            earlier = runs[rung.name]
            tried = [earlier[0].stamp["lr"]] if earlier else learning_rates or [rung.params.finetune.lr]
            made = [run_of(folder, rung, data, lr=lr, seed=seed, progress=progress) for lr in tried]
            runs[rung.name].append(max(made, key=lambda run: run.stamp["val_mAP"] or 0.0))
        text = report(folder, rungs, runs, num_resamples=num_resamples)
    return text


class Progress:
    """A log line a run: what it gave, and how many are left."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def say(self, what: str, run: ScoredRun) -> None:
        self.done += 1
        score = run.stamp["val_mAP"]
        measured = "not measured" if score is None else f"{score:.4f}"
        logger.info("%d of %d: %s, mAP on calibration %s", self.done, self.total, what, measured)


def with_run(params: Params, *, lr: float, seed: int) -> Params:
    """Params of one run of a rung."""
    return params.model_copy(update={"seed": seed, "finetune": params.finetune.model_copy(update={"lr": lr})})


def start_of(params: Params) -> Path | None:
    """The weights that a rung starts from besides the backbone's own."""
    return params.paths.pretrained if params.pretrain.enabled else None


def refuse_misfits(rungs: Sequence[AblationStep], learning_rates: Sequence[float]) -> None:
    """Build every rung's network once. Raises ParamsError or ModelError naming the rung."""
    for lr in learning_rates:
        if lr <= 0:
            raise ParamsError(f"ablate: the learning rate must be greater than 0, found {lr:g}.")
    params = rungs[0].params
    words = Workspace(params.paths).vocabulary()
    dense = Workspace(params.paths).states("cleaned", Workspace(params.paths).image_ids("train"), words.labels)
    for rung in rungs:
        start = start_of(rung.params)
        if start is not None and not has_model(start):
            raise ParamsError(
                f"ablate: rung '{rung.name}': {start} holds no weights. Run `dvc repro pretrain` with a source "
                f"that has `use: pretrain`, or leave the rung out with `--skip {rung.name}`."
            )
        try:
            build_model(rung.params, words, rung.params.finetune, start=start, dense=dense)
        except TagwrightError as error:
            raise type(error)(f"ablate: rung '{rung.name}': {error} `--skip {rung.name}` leaves it out.") from error


def run_of(folder: Path, rung: AblationStep, data: str, *, lr: float, seed: int, progress: Progress) -> ScoredRun:
    """One run, from its file where it has been made of the same inputs, else trained, scored and written.

    data: see `data_sha256`.
    """
    params, name = with_run(rung.params, lr=lr, seed=seed), f"{rung.name}-lr{lr:g}-seed{seed}"
    path, inputs = folder / "runs" / f"{name}.parquet", inputs_sha256(params, data)
    run = read_scored_run(path) if path.exists() else None
    if run is None or run.stamp.get("inputs_sha256") != inputs:
        logger.info("%s: training", name)
        state = f"ablate-{folder.parent.name}-{folder.name}-{name}"
        model, result, _ = trained(params, state, start=start_of(params))
        val_map = result.best_score if math.isfinite(result.best_score) else None
        stamp = {"rung": rung.name, "lr": lr, "seed": seed, "val_mAP": val_map, "inputs_sha256": inputs}
        run = scored_run(params, model, stamp | {"weights_kind": result.kind})
        write_scored_run(path, run)
        checkpoint.remove(checkpoint_dir(params, state))
    progress.say(name, run)
    return run


def data_sha256(params: Params) -> str:
    """Hash of the tables and images that every rung trains on and is scored on."""
    paths = params.paths
    files = [paths.splits, paths.mapped / "coverage.parquet", paths.mapped / "vocabulary.json"]
    files += [paths.replication] if params.finetune.resample else []
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


def _sha256(stated: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


def scored_run(params: Params, model: Tagger, stamp: Mapping[str, object]) -> ScoredRun:
    """The model's scores, as the network gives them, beside the labels of the evaluated partition."""
    words, section = Workspace(params.paths).vocabulary(), params.evaluate
    ids = Workspace(params.paths).image_ids(section.partition)
    dense = Workspace(params.paths).states("cleaned", ids, words.labels)
    kept = dense.has_known_labels()
    images, ids = image_set(params, dense, kept), [ids[i] for i in kept]
    scores_NC = score_images(params, model, images, batch_size=params.predict.batch_size).scores_NC
    protocol = protocol_named(section.protocol)
    how = protocol.stamp(
        image_ids=ids,
        labels=words.labels,
        absent_labels=[],
        threshold_rule=f"fixed {protocol.threshold:g}",
        weights_kind=str(stamp["weights_kind"]),
    )
    thresholds_C = np.full(len(words.labels), protocol.threshold)
    return ScoredRun(
        ids, words.labels, scores_NC, dense.targets_NC[kept], dense.known_NC[kept], thresholds_C,
        Workspace(params.paths).groups(ids), {**how, "partition": section.partition, **stamp},
    )  # fmt: skip


def report(
    folder: Path, rungs: Sequence[AblationStep], runs: Mapping[str, Sequence[ScoredRun]], *, num_resamples: int
) -> str:
    """Write ladder.json and ladder.md from the runs so far, the same seeds of every rung; returns the Markdown."""
    names = [rung.name for rung in rungs]
    scored_RS = [
        [
            Scored(
                run.scores_NC, run.targets_NC, run.known_NC, run.thresholds_C,
                protocol_named(run.stamp["name"]), keep_order=True,
            )
            for run in runs[name]
        ]
        for name in names
    ]  # fmt: skip
    first = runs[names[0]][0]
    drawn_RSB = [
        [resample(s, num_resamples, resample_by=first.group_ids).headline["mAP"] for s in row] for row in scored_RS
    ]
    map_RS = np.array([[mean_average_precision(s) for s in row] for row in scored_RS])
    rows = ladder_rows(names, map_RS, np.array(drawn_RSB))
    learning_rates = {name: runs[name][0].stamp["lr"] for name in names}
    seeds = [run.stamp["seed"] for run in runs[names[0]]]
    recipe, ladder = folder.parts[-2:]
    measured = {
        "recipe": recipe,
        "ladder": ladder,
        "protocol": first.stamp["name"],
        "partition": first.stamp["partition"],
        "num_images": len(first.image_ids),
        "num_labels": len(first.labels),
        "seeds": seeds,
        "learning_rates": learning_rates,
        "resamples": num_resamples,
    }
    tables.write_json(folder / "ladder.json", {**measured, "rungs": rows})
    legend = "".join(f"- {rung.name}: {rung.what}\n" for rung in rungs)
    text = (
        f"Recipe {recipe}, ladder {ladder}: mAP in percent on {len(first.image_ids)} images "
        f"({first.stamp['partition']}), {len(first.labels)} labels, protocol {first.stamp['name']}, "
        f"mean of {len(seeds)} seed(s).\n"
        f"Intervals: 95 %, {num_resamples} resamples of images and seeds, paired over rungs; bold leaves out 0.\n\n"
        f"{markdown(rows, learning_rates)}\n{legend}"
    )
    tables.write_text(folder / "ladder.md", text)
    return text


def command(
    recipe: Annotated[str, typer.Argument(help="file name under recipes/, without .yaml; its data must be prepared")],
    ladder: Annotated[str, typer.Option(help="file name under recipes/ladders/, without .yaml")] = "paper",
    seeds: Annotated[int, typer.Option(min=1, help="runs of each rung")] = 3,
    lr: Annotated[list[float] | None, typer.Option(help="learning rates that each rung tries; may be repeated")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="a rung to leave out; may be repeated")] = None,
    bootstrap: Annotated[int, typer.Option(min=1, help="resamples for 95 % intervals")] = 2000,
) -> None:
    """Which component of a recipe earns its place: baseline, +SAM, … +GAT over several seeds, compared in pairs."""
    typer.echo(
        ablate(recipe, ladder, num_seeds=seeds, learning_rates=lr or [], skip=skip or [], num_resamples=bootstrap)
    )
