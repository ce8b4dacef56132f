"""`python -m tasks …`: one stage by hand, and the commands that answer a question.

Exit 0 on success, 1 on a user's error (one line), 2 on wrong usage, 130 on Ctrl-C, 143 when SIGTERM stopped a training
that saved its state. Heavy imports happen inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

try:
    import typer
except ModuleNotFoundError:  # a machine that only predicts: onnxruntime, numpy and Pillow are all it has
    if __name__ != "__main__" or sys.argv[1:2] != ["predict"]:
        raise
    from tasks.commands.predict import main as predict_alone
    from tasks.images.stored_pixels import stored_pixels

    sys.exit(predict_alone(sys.argv[2:], read=stored_pixels))

from tasks.commands.review import review_app
from tasks.core.errors import ParamsError, TagwrightError, did_you_mean

if TYPE_CHECKING:
    from tasks.params import Params

# Threads that spin while they wait bring training to a crawl as soon as anything else wants a core. Read by OpenMP when
# torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__.splitlines()[0]
)
STAGES = Path(__file__).parent / "stages"
TRAINS = ("pretrain", "out_of_fold", "finetune")
"""Stages that TAGWRIGHT_PROCESSES spreads over several processes; the numbers stay those of one."""


def stage_names() -> list[str]:
    """Every stage: the modules of tasks/stages without a leading underscore."""
    return sorted(p.stem for p in STAGES.glob("*.py") if not p.stem.startswith("_"))


def run_stage(stage: str) -> None:
    """Run `STAGE` or `STAGE@ITEM` as dvc.yaml does, recorded in MLflow when it is installed."""
    from tasks import tracking
    from tasks.params import load_params

    name, _, item = stage.partition("@")
    params = load_params()
    module = importlib.import_module(f"tasks.stages.{name}")
    takes_item = len(inspect.signature(module.run).parameters) == 2
    if takes_item and item not in params.sources:
        found = f"'{item}' is not under `sources:`" if item else "it needs a source"
        raise ParamsError(f"{name}: {found}. {did_you_mean(item, params.sources)} Write {name}@SOURCE.")
    if item and not takes_item:
        raise ParamsError(f"{name}: this stage takes no '@{item}'. Write `python -m tasks {name}`.")
    if name in TRAINS and "RANK" not in os.environ and os.environ.get("TAGWRIGHT_PROCESSES", "1") != "1":
        sys.exit(run_distributed(stage, os.environ["TAGWRIGHT_PROCESSES"]))
    if name in TRAINS:
        from tasks.commands.check import check_choices

        check_choices(params)
    section = params.sources[item] if takes_item else getattr(params, name, None)
    with tracking.stage_run(stage, section.model_dump(mode="json") if section else {}):
        module.run(params, item) if takes_item else module.run(params)
        if name == "export":
            from tasks.commands.summary import measured

            tracking.register_model(params.paths.exported, measured(params))
        if name == "evaluate":
            log_evaluation(params)


def log_evaluation(params: Params) -> None:
    """Headline numbers as metrics, the labels as one table; here, so that no stage imports the recorder."""
    from tasks import tracking
    from tasks.core import tables

    test = tables.read_json(params.paths.metrics)["test"]
    tracking.log_metrics({k: test[k] for k in ("mAP", "OF1", "CF1", "image_F1") if test[k] is not None})
    tracking.log_table("per_label", tables.read_table(params.paths.evaluation / "per_label.parquet"))


def run_distributed(stage: str, processes: str) -> int:
    """The same stage in several processes of this machine, one a GPU; returns the exit status."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "tasks", stage]
    return subprocess.run([sys.executable, *launch]).returncode


def _register_stages() -> None:
    for name in stage_names():
        docstring = _first_docstring_line(STAGES / f"{name}.py")
        if name != "predict":  # its own command: with arguments it scores image files
            app.command(name, help=docstring, rich_help_panel="Stages")(lambda name=name: run_stage(name))


def _first_docstring_line(path: Path) -> str:
    """The module's first line without importing it."""
    return path.read_text(encoding="utf-8").split('"""', 2)[1].strip().splitlines()[0]


QUESTIONS, MODEL, FILES = "Questions", "Model", "Files"
app.add_typer(review_app, name="review", rich_help_panel=QUESTIONS)


@app.command(rich_help_panel=QUESTIONS)
def summary() -> None:
    """What the last run achieved, and where its report is."""
    from rich.console import Console

    from tasks.commands.summary import summarise
    from tasks.params import load_params

    Console(highlight=False).print(summarise(load_params()))


@app.command(rich_help_panel=QUESTIONS)
def explain(image_id: Annotated[str, typer.Argument(help="as in the images table, e.g. digits_coco/12")]) -> None:
    """Where each label of an image came from."""
    from rich.console import Console

    from tasks.commands.explain import explain as tell
    from tasks.params import load_params

    Console().print(tell(load_params(), image_id))


@app.command(rich_help_panel=QUESTIONS)
def verdict(
    image_id: Annotated[str, typer.Argument(help="as in the images table")],
    label: Annotated[str, typer.Argument(help="label id of the taxonomy")],
    answer: Annotated[str, typer.Argument(help="present, absent or unsure")],
    who: Annotated[str | None, typer.Option(help="reviewer; git's user.name when left out")] = None,
) -> None:
    """Record a person's verdict without any screen."""
    from tasks.commands.review import default_reviewer
    from tasks.commands.review_steps import record_verdict
    from tasks.params import load_params

    typer.echo(record_verdict(load_params(), image_id, label, answer, who or default_reviewer()))


@app.command(rich_help_panel=QUESTIONS)
def score(
    predictions: Annotated[Path, typer.Option(help="table of image_id, label, score; a missing pair scores 0")],
    labels: Annotated[Path, typer.Option(help="table of image_id, label, state: 1, 0, or -1 unknown")],
    protocol: Annotated[str, typer.Option(help="tagwright, asl, mlgcn, otx or voc07")] = "tagwright",
    thresholds: Annotated[str, typer.Option(help="a rule of tasks/thresholds")] = "fixed",
    fit_on: Annotated[Path | None, typer.Option(help="image ids to fit thresholds on, one a line")] = None,
    absent_if_missing: Annotated[bool, typer.Option(help="the labels are exhaustive: no row is absent")] = False,
    bootstrap: Annotated[int, typer.Option(min=0, help="resamples for 95 % intervals")] = 0,
    save: Annotated[Path | None, typer.Option(help="write the scored run here, for `compare`")] = None,
) -> None:
    """Metrics of any scores against any labels, as one JSON object."""
    from tasks.commands import score as scoring
    from tasks.evaluation.scored_run import write_scored_run

    result, run = scoring.score_run(
        scoring.read_long_scores(predictions),
        scoring.read_long_labels(labels),
        protocol=protocol,
        threshold_rule=thresholds,
        fit_on_ids=read_lines(fit_on) if fit_on else None,
        absent_if_missing=absent_if_missing,
        bootstrap=bootstrap,
    )
    if save:
        write_scored_run(save, run)
    print_json({**result.pop("metrics"), **result})  # headline numbers first: {"mAP": …, "OF1": …, "labels": {…}, …}


@app.command(rich_help_panel=QUESTIONS)
def compare(
    a: Annotated[Path, typer.Argument(help="scored run, e.g. of another commit or `score --save`")],
    b: Annotated[Path, typer.Argument(help="scored run; the difference is B - A")],
    bootstrap: Annotated[int, typer.Option(min=1)] = 1000,
) -> None:
    """Is B better than A? Paired bootstrap on the same images; unlike protocols are refused."""
    from tasks.evaluation.comparison import compare as compare_runs
    from tasks.evaluation.scored_run import read_scored_run

    print_json(compare_runs(read_scored_run(a), read_scored_run(b), bootstrap=bootstrap))


@app.command(rich_help_panel=QUESTIONS)
def accept() -> None:
    """Put the last evaluation in force: the gate holds later runs against it. Commit the folder it writes."""
    from tasks import tracking
    from tasks.commands.summary import measured
    from tasks.evaluation.accepted import accept as accept_run
    from tasks.params import load_params

    params = load_params()
    paths = params.paths
    accepted = accept_run(paths.metrics, paths.evaluation, paths.accepted)
    if paths.exported.exists() and (found := measured(params)):
        tracking.promote(paths.exported, **found)
    score = accepted["test"]["mAP"]
    shown = "that the protocol leaves undefined" if score is None else f"{score:.4f}"
    typer.echo(f"mAP {shown} is in force. Commit {paths.accepted}.")


@app.command(rich_help_panel=MODEL)
def predict(
    model: Annotated[Path | None, typer.Argument(help="exported ONNX file")] = None,
    paths: Annotated[list[str] | None, typer.Argument(help="files, folders, globs, or - for paths on stdin")] = None,
) -> None:
    """Labels of image files by an exported model, without torch; without arguments, the stage."""
    if model is None:
        return run_stage("predict")
    if not paths:
        raise typer.BadParameter("name images, folders or globs, or - to read paths from stdin", param_hint="PATHS")
    from tasks.commands.predict import predict as predict_files
    from tasks.images.stored_pixels import stored_pixels

    predict_files(model, paths, read=stored_pixels, stdin=sys.stdin, write=typer.echo)


@app.command(rich_help_panel=MODEL)
def detect(
    paths: Annotated[list[str], typer.Argument(help="files, folders or globs")],
    weights: Annotated[Path, typer.Option(help="state dict of the network, .safetensors")],
    out: Annotated[Path, typer.Option(help="Parquet file for a source of `kind: predictions`")],
    network: Annotated[str, typer.Option(help="a detection model of torchvision")] = "fasterrcnn_resnet50_fpn_v2",
    categories: Annotated[Path | None, typer.Option(help="names by class index, one a line, background first")] = None,
) -> None:
    """A torchvision detector's scores of whole images, to be fused with the model's."""
    from tasks.commands.detect import detect as detect_in
    from tasks.commands.predict import list_images
    from tasks.images.decode import open_rgb

    names = read_lines(categories) if categories else None
    num_images = detect_in(network, weights, list_images(paths), out, open_image=open_rgb, categories=names)
    typer.echo(f"{out} written from {num_images} images")


@app.command(rich_help_panel=MODEL)
def serve(
    model: Annotated[Path, typer.Argument(help="exported ONNX file")],
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
) -> None:
    """The exported model over HTTP; loopback unless --host says otherwise."""
    from tasks.export.service import serve as serve_model
    from tasks.images.stored_pixels import stored_pixels

    serve_model(model, read=stored_pixels, host=host, port=port)


@app.command(rich_help_panel=MODEL)
def migrate(
    folder: Annotated[Path, typer.Argument(help="folder to write the migrated model to")],
) -> None:
    """The last run's model under today's taxonomy: labels renamed, merged, split and added without training."""
    from tasks.commands.migrate import migrate as migrate_model
    from tasks.params import load_params

    print_json(migrate_model(load_params(), folder))


@app.command(rich_help_panel=QUESTIONS)
def ablate(
    recipe: Annotated[str, typer.Argument(help="file name under recipes/, without .yaml; its data must be prepared")],
    ladder: Annotated[str, typer.Option(help="file name under recipes/ladders/, without .yaml")] = "paper",
    seeds: Annotated[int, typer.Option(min=1, help="runs of each rung")] = 3,
    lr: Annotated[list[float] | None, typer.Option(help="learning rates that each rung tries; may be repeated")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="a rung to leave out; may be repeated")] = None,
    bootstrap: Annotated[int, typer.Option(min=1, help="resamples for 95 % intervals")] = 2000,
) -> None:
    """Which component of a recipe earns its place: baseline, +SAM, … +GAT over several seeds, compared in pairs."""
    from tasks.commands.ablate import ablate as climb

    typer.echo(
        climb(recipe, ladder, num_seeds=seeds, learning_rates=lr or [], skip=skip or [], num_resamples=bootstrap)
    )


@app.command("find-lr", rich_help_panel=MODEL)
def find_lr(
    min_lr: Annotated[float, typer.Option(min=0, help="lowest rate; a summed loss wants far lower ones")] = 1e-4,
    max_lr: Annotated[float, typer.Option(min=0, help="highest rate")] = 0.1,
    trials: Annotated[int, typer.Option(min=0, help="runs of finetune to try; 0: one sweep")] = 0,
) -> None:
    """A learning rate for `finetune`: by a range test in one sweep, or by Optuna over whole runs."""
    from tasks.commands.find_lr import find_lr as find
    from tasks.params import load_params

    if not 0 < min_lr < max_lr:
        raise typer.BadParameter(f"0 < min-lr < max-lr does not hold for {min_lr:g} and {max_lr:g}")
    print_json(find(load_params(), min_lr=min_lr, max_lr=max_lr, num_trials=trials))


@app.command(rich_help_panel=MODEL)
def cost() -> None:
    """Multiply-accumulates and parameters of the last run's model, for one image."""
    from dataclasses import asdict

    from tasks.nn.cost import count_cost
    from tasks.nn.model import load_model
    from tasks.params import load_params

    params = load_params()
    print_json(asdict(count_cost(load_model(params.paths.finetuned), tuple(params.model.image_px))))


@app.command(rich_help_panel=FILES)
def draft(
    source: Annotated[str, typer.Argument(help="an entry of `sources:`; run ingest@SOURCE first")],
    hierarchy: Annotated[Path | None, typer.Option(help="Open Images' label hierarchy, JSON")] = None,
) -> None:
    """A first taxonomy.yaml from the names of a source, to be edited by a person."""
    from tasks.commands.draft import draft as drafted
    from tasks.params import load_params

    typer.echo(drafted(load_params(), source, hierarchy), nl=False)


@app.command(rich_help_panel=FILES)
def recipe(name: Annotated[str | None, typer.Argument(help="file name under recipes/, without .yaml")] = None) -> None:
    """Apply a recipe to params.yaml and print what changed; without a name, list the recipes."""
    from tasks.commands.recipe import apply_recipe, list_recipes

    typer.echo(apply_recipe(name) if name else list_recipes())


@app.command(rich_help_panel=FILES)
def download(name: Annotated[str, typer.Argument(help="an entry of `download:` in params.yaml")]) -> None:
    """Fetch a public data set; run again, it goes on where it stopped."""
    from tasks.core.registry import call
    from tasks.params import load_params
    from tasks.sources import DOWNLOADERS

    entries = load_params().download
    if name not in entries:
        raise ParamsError(f"params.yaml: download: no entry '{name}'. {did_you_mean(name, entries)}")
    entry = entries[name]
    call(DOWNLOADERS, entry.kind, entry.options, where=f"params.yaml: download.{name}", root=entry.path)


@app.command(rich_help_panel=FILES)
def convert(
    source_format: Annotated[str, typer.Argument(help="coco, datumaro (OTX) or reid (deep-object-reid)")],
    source: Path,
    target_format: Annotated[str, typer.Argument(help="datumaro or reid")],
    target: Path,
) -> None:
    """Rewrite an annotation file in another tool's format."""
    from tasks.sources.otx import convert as convert_file

    convert_file(source_format, source, target_format, target)
    typer.echo(f"{target} written")


def read_lines(path: Path) -> list[str]:
    """Lines that are not empty. Raises TableError when the file cannot be read."""
    from tasks.core.errors import TableError

    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise TableError(
            f"{path}: cannot be read ({error.strerror}). Give a text file, one image id a line."
        ) from error


def print_json(value: dict) -> None:
    """One JSON object on stdout, keys sorted."""
    typer.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def main() -> None:
    """Entry point: turn errors into exit codes."""
    logging.basicConfig(level=os.environ.get("TAGWRIGHT_LOG", "INFO"), format="%(levelname).1s %(name)s: %(message)s")
    for noisy in (
        "onnx_ir",
        "alembic",
        "mlflow",
        "httpx",
        "matplotlib",
        "fontTools",
        "onnxscript",
        "torch.onnx",
        "PIL",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _register_stages()
    try:
        if len(sys.argv) == 2 and "@" in sys.argv[1] and sys.argv[1].split("@")[0] in stage_names():
            run_stage(sys.argv[1])
        else:
            app()
    except TagwrightError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:  # no file of the user's: a programmer's mistake, with its traceback
            raise
        print(
            f"error: {error.filename}: {error.strerror}. See who owns it and whether the disk is full.", file=sys.stderr
        )
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
