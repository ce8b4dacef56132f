"""Applies journals to MLflow until none is open: `python -m tasks.tracking.recorder`, started by the stages themselves.

One recorder works on a folder at a time (`recorder.lock`). It may be killed and started again at any moment: the run
that a journal became has the journal's name as a tag, and `runs.json` keeps what a killed stage is to be continued as.

    runs.json   {stage: {run_id, status, params}} of the last run of each stage
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock, Timeout
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from tasks.core.tables import write_json
from tasks.tracking.description import describe
from tasks.tracking.dvc_lock import digest_of, dvc_hashes
from tasks.tracking.journal import FOLDER, Journal, is_alive, now_ms, open_journals
from tasks.tracking.model_registry import register
from tasks.tracking.stage_runs import HEADLINE

logger = logging.getLogger(__name__)

EXPERIMENT = "tagwright"
POLL_S = 0.3
RETRY_S = 5.0
"""Pause after the tracking server could not be reached."""

HOPELESS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")
"""MLflow refuses the request itself, e.g. for a run that somebody deleted: trying again cannot help."""

NO_REGISTRY = ("ENDPOINT_NOT_FOUND", "FEATURE_DISABLED", "NOT_IMPLEMENTED", "PERMISSION_DENIED")
"""MLflow keeps runs but takes no models."""

# Limits of MLflow (mlflow.utils.validation) and of its text columns.
BATCH_SIZES = {"metrics": 1000, "params": 100, "tags": 100}
PARAM_LENGTH, TAG_LENGTH, KEY_LENGTH = 6000, 8000, 250
PARENT = "mlflow.parentRunId"
SOURCE_STAGE = "ingest@"
"""Its stages read one source each: the data sets of a pipeline's run."""


def record(root: Path = FOLDER) -> None:
    """Apply the journals under `root` until none is open, unless another recorder does it already."""
    lock = FileLock(root / "recorder.lock")
    # Looked at once more after the lock is released: a stage that met the lock taken trusts us to see its journal.
    while open_journals(root):
        try:
            with lock.acquire(timeout=0):
                if not _drain(root):
                    return
        except Timeout:
            return


def _drain(root: Path) -> bool:
    """Apply events as they come; False when the tracking server stays away after the last writer has gone."""
    recorder = None
    while journals := open_journals(root):
        journal = None
        try:
            recorder = recorder or Recorder(root, open_client(root))
            for journal in journals:
                recorder.apply(journal)
        except (MlflowException, OSError) as error:
            logger.exception("recording %s", journal.name if journal else "")
            if journal and getattr(error, "error_code", None) in HOPELESS:
                journal.set_aside(root / "rejected")
            elif any(is_alive(j.header()) for j in journals):
                time.sleep(RETRY_S)
            else:
                return False
        time.sleep(POLL_S)
    return True


def open_client(root: Path) -> mlflow.MlflowClient:
    """MLFLOW_TRACKING_URI where it is set, else a SQLite file under `root`."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / 'mlflow.db').resolve()}"
    return mlflow.MlflowClient(uri)


def _experiment_id(client: mlflow.MlflowClient, root: Path) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    if experiment := client.get_experiment_by_name(name):
        return experiment.experiment_id
    local = None if os.environ.get("MLFLOW_TRACKING_URI") else (root / "artifacts").resolve().as_uri()
    # A page of MLflow that asks the experiment opens on runs; the newest one asks its own address (see README.md).
    kind = {"mlflow.experimentKind": "custom_model_development"}
    return client.create_experiment(name, artifact_location=local, tags=kind)


class Recorder:
    """The state of one recorder: where it stands in each journal, the runs they became, and runs.json."""

    def __init__(self, root: Path, client: mlflow.MlflowClient) -> None:
        self.client = client
        self.experiment_id = _experiment_id(client, root)
        self._runs_path = root / "runs.json"
        self._dvc_lock = root.parent / "dvc.lock"
        self._offsets: dict[str, int] = {}
        self._run_ids: dict[str, str] = {}
        self._stages = json.loads(self._runs_path.read_text(encoding="utf-8")) if self._runs_path.exists() else {}

    def apply(self, journal: Journal) -> None:
        """Bring the journal's run up to date; close it and delete the journal when there is nothing to come."""
        header = journal.header()
        gone = not is_alive(header)  # asked before reading, so that nothing can be written in between
        events, offset = journal.events(self._offsets.get(journal.name, 0))
        run_id = self._run_ids.get(journal.name) or self._begin(journal.name, header)
        self._log(run_id, journal, events)
        end = next((event for event in events if event["op"] == "end"), None)
        if end is None and not gone:
            self._offsets[journal.name] = offset
            return
        if header["kind"] == "pipeline":
            if self._has_open_children(journal):
                return
            links = [event for event in journal.events()[0] if event["op"] == "link"]
            self._end_pipeline(run_id, header, end, links)
        else:
            status = end["status"] if end else "KILLED"
            self._end(run_id, status, end)
            self._remember(header, run_id, status)
        journal.remove()

    def _begin(self, name: str, header: dict[str, Any]) -> str:
        """Run id of a journal seen for the first time by this recorder: found, continued, or created."""
        tags = {**header["tags"], "kind": header["kind"], "journal": name}
        if header["kind"] == "stage":
            tags["stage"] = header["name"]
        if header.get("pipeline") and (parent := self._run_of(header["pipeline"])):
            tags[PARENT] = parent
        run_id = self._run_of(name) or self._killed_before(header)
        if run_id is None:
            run = self.client.create_run(
                self.experiment_id, start_time=header["time_ms"], tags=tags, run_name=header["name"]
            )
            run_id = run.info.run_id
        else:
            self.client.update_run(run_id, status="RUNNING")
        self._log_batches(run_id, params=header.get("params", {}), tags=tags)
        self._run_ids[name] = run_id
        if header["kind"] == "stage":
            self._remember(header, run_id, "RUNNING")
        return run_id

    def _run_of(self, journal: str) -> str | None:
        """Id of the run that a journal became, None if it did not yet."""
        if journal not in self._run_ids and (runs := self._search(f"tags.journal = '{journal}'", most=1)):
            self._run_ids[journal] = runs[0].info.run_id
        return self._run_ids.get(journal)

    def _killed_before(self, header: dict[str, Any]) -> str | None:
        """The run of this stage that was killed, if it had the same params and nothing ran the stage since."""
        last = self._stages.get(header["name"]) if header["kind"] == "stage" else None
        killed = last and last["status"] == "KILLED" and last["params"] == header["params"]
        return last["run_id"] if killed else None

    def _remember(self, header: dict[str, Any], run_id: str, status: str) -> None:
        self._stages[header["name"]] = {"run_id": run_id, "status": status, "params": header["params"]}
        write_json(self._runs_path, self._stages)

    def _log(self, run_id: str, journal: Journal, events: list[dict[str, Any]]) -> None:
        metrics = [
            Metric(mlflow_key(name), value, event["time_ms"], event["step"])
            for event in events
            if event["op"] == "metrics"
            for name, value in event["values"].items()
        ]
        tags = {k: v for event in events if event["op"] == "tags" for k, v in event["values"].items()}
        # The name as the stage knows it, wherever MLflow could not take it.
        names = {n for e in events if e["op"] == "metrics" for n in e["values"] if mlflow_key(n) != n}
        self._log_batches(run_id, metrics=metrics, tags={**tags, **{f"metric.{mlflow_key(n)}": n for n in names}})
        for event in events:
            if event["op"] == "model":
                self._register(run_id, journal.files / event["file"], event)
            elif event["op"] in ("table", "file"):
                self.client.log_artifact(run_id, str(journal.files / event["file"]))
            pipeline = journal.header().get("pipeline") if event["op"] == "file" else None
            if pipeline and (parent := self._run_of(pipeline)):
                self.client.log_artifact(parent, str(journal.files / event["file"]))
        if tables := [e["file"] for e in events if e["op"] == "table"]:
            self._show_as_tables(run_id, tables)

    def _register(self, run_id: str, path: Path, event: dict[str, Any]) -> None:
        """A version in the model registry; a server that refuses, or keeps none, costs the run nothing but a line."""
        name = self.client.get_experiment(self.experiment_id).name
        try:
            version = register(self.client, name, run_id, path, event["aliases"], event["tags"])
        except MlflowException as error:
            if error.error_code not in (*HOPELESS, *NO_REGISTRY):
                raise
            logger.exception("no model registry: %s of run %s is not in it", path.name, run_id)
        else:
            self.client.set_tag(run_id, "registered_model", f"{name} {version.version}")

    def _log_batches(
        self, run_id: str, *, metrics: list[Metric] = (), params: Mapping[str, str] = {}, tags: Mapping[str, str] = {}
    ) -> None:
        texts = [Param(mlflow_key(k), v[:PARAM_LENGTH]) for k, v in params.items()]
        marks = [RunTag(mlflow_key(k), v[:TAG_LENGTH]) for k, v in tags.items()]
        for field, items in (("metrics", metrics), ("params", texts), ("tags", marks)):
            for start in range(0, len(items), size := BATCH_SIZES[field]):
                self.client.log_batch(run_id, **{field: items[start : start + size]})

    def _show_as_tables(self, run_id: str, files: list[str]) -> None:
        """The tag by which MLflow's page finds tables (its own log_table appends, which a replay must not)."""
        tag = "mlflow.loggedArtifacts"
        shown = json.loads(self.client.get_run(run_id).data.tags.get(tag, "[]"))
        shown += [t for t in ({"path": f, "type": "table"} for f in files) if t not in shown]
        self.client.set_tag(run_id, tag, json.dumps(shown))

    def _link(self, pipeline_id: str, event: dict[str, Any], made_by: Run | None) -> None:
        """A child run that points to the run which made the stage's present result, and repeats its last numbers."""
        stage = event["stage"]
        if self._search(f"tags.`{PARENT}` = '{pipeline_id}' and tags.stage = '{stage}'", most=1):
            return
        tags = {
            PARENT: pipeline_id,
            "kind": "link",
            "stage": stage,
            "cached_from": made_by.info.run_id if made_by else "not recorded here",
        }
        if made_by:
            link = f"#/experiments/{self.experiment_id}/runs/{made_by.info.run_id}"
            tags["mlflow.note.content"] = f"Nothing it reads has changed. Its result was made by [this run]({link})."
        run = self.client.create_run(self.experiment_id, start_time=event["time_ms"], run_name=stage)
        metrics = [Metric(k, v, event["time_ms"], 0) for k, v in (made_by.data.metrics if made_by else {}).items()]
        self._log_batches(run.info.run_id, metrics=metrics, tags=tags)
        self.client.set_terminated(run.info.run_id, "FINISHED", end_time=event["time_ms"])

    def _made_by(self, stage: str) -> Run | None:
        """The newest finished run of `stage` that wrote what dvc.lock holds now."""
        wrote = digest_of(dvc_hashes(self._dvc_lock, stage, "outs"))
        if not wrote:
            return None
        query = f"tags.kind = 'stage' and tags.stage = '{stage}' and tags.wrote = '{wrote}'"
        return next(iter(self._search(f"{query} and attributes.status = 'FINISHED'", most=1)), None)

    def _note_data(self, run: Run, dvc_lock: Path) -> None:
        """What DVC knows of a stage that ran: data sets it read, and a description and a digest of what it wrote."""
        stage = run.data.tags["stage"]
        read, wrote = (dvc_hashes(dvc_lock, stage, what) for what in ("deps", "outs"))
        self._log_datasets(run.info.run_id, {path: (path, md5) for path, md5 in read.items()})
        if wrote:
            rows = "\n".join(f"| `{path}` | `{md5}` |" for path, md5 in wrote.items())
            note = f"Wrote, under these names in DVC's cache:\n\n| path | md5 |\n|---|---|\n{rows}"
            self._log_batches(run.info.run_id, tags={"wrote": digest_of(wrote), "mlflow.note.content": note})

    def _log_datasets(self, run_id: str, data: Mapping[str, tuple[str, str]]) -> None:
        """data: name -> (path, md5). Harmless to repeat."""
        sets = [Dataset(name, md5, "local", json.dumps({"uri": path})) for name, (path, md5) in data.items()]
        if sets:
            self.client.log_inputs(run_id, datasets=[DatasetInput(dataset) for dataset in sets])

    def _sources(self, stages: Iterable[str]) -> dict[str, tuple[str, str]]:
        """source -> (path, md5), of those stages that read one; the digest of their code is no source."""
        return {
            stage.removeprefix(SOURCE_STAGE): (path, md5)
            for stage in stages
            if stage.startswith(SOURCE_STAGE)
            for path, md5 in dvc_hashes(self._dvc_lock, stage, "deps").items()
            if not path.endswith(f"/{stage}.json")
        }

    def _has_open_children(self, pipeline: Journal) -> bool:
        journals = open_journals(pipeline.folder.parent.parent)
        return any(j.header().get("pipeline") == pipeline.name for j in journals)

    def _end_pipeline(
        self, run_id: str, header: dict[str, Any], end: dict[str, Any] | None, links: list[dict[str, Any]]
    ) -> None:
        """DVC has written dvc.lock by now: note with each child what it read and wrote, then close.

        links: stages whose result DVC had. Where any stage ran, each gets a child of its own, so that the run has no
        holes; where none did, the run alone says so.
        """
        members = self._search(f"tags.`{PARENT}` = '{run_id}'", most=1000)
        children = [child for child in members if child.data.tags["kind"] == "stage"]
        for child in children:
            if child.info.status == "FINISHED":
                self._note_data(child, Path(header.get("dvc_lock", self._dvc_lock)))
        made_by = {event["stage"]: self._made_by(event["stage"]) for event in links}
        if children:
            for event in links:
                self._link(run_id, event, made_by[event["stage"]])
        # A DVC process writes no end into its journal: its children show how it went.
        statuses = {c.info.status for c in children} if header["tags"]["started_by"] == "dvc" else {"KILLED"}
        status = end["status"] if end else next((s for s in ("KILLED", "FAILED") if s in statuses), "FINISHED")
        self._log_datasets(run_id, self._sources([*made_by, *(child.data.tags["stage"] for child in children)]))
        self._headline(run_id, header, children, made_by)
        self._end(run_id, status, end)

    def _headline(
        self, run_id: str, header: dict[str, Any], children: list[Run], made_by: dict[str, Run | None]
    ) -> None:
        """The figures and the description of a pipeline run, from its stages and the runs that made what was cached."""
        children = sorted(children, key=lambda child: child.info.start_time)
        headline = {
            name: run.data.metrics[name]
            for run in [*filter(None, made_by.values()), *children]
            for name in json.loads(run.data.tags.get(HEADLINE, "[]"))
            if name in run.data.metrics
        }
        finished = [child for child in children if child.info.status == "FINISHED"]
        text = describe(
            headline=headline,
            ran={c.data.tags["stage"]: (c.info.end_time - c.info.start_time) / 1000 for c in finished},
            failed=[c.data.tags["stage"] for c in children if c.info.status != "FINISHED"],
            from_cache=list(made_by),
            tags=header["tags"],
            params={name: header["params"][name] for name in header.get("changed", [])},
            files=[artifact.path for artifact in self.client.list_artifacts(run_id)],
        )
        metrics = [Metric(name, value, now_ms(), 0) for name, value in headline.items()]
        self._log_batches(run_id, metrics=metrics, tags={"mlflow.note.content": text})
        # The table of runs shows few letters of a name, and no metric before somebody asks for its column.
        figure = next((f"{name} {value:.3f} · " for name, value in headline.items()), "")
        self.client.update_run(run_id, name=f"{figure}{header['name']}")

    def _end(self, run_id: str, status: str, end: dict[str, Any] | None) -> None:
        self.client.set_terminated(run_id, status, end_time=end["time_ms"] if end else now_ms())

    def _search(self, query: str, *, most: int) -> list[Run]:
        return self.client.search_runs([self.experiment_id], query, max_results=most)


def mlflow_key(name: str) -> str:
    """`name` as MLflow takes it; a changed one ends in 6 hex digits of its hash, so that no two fall together."""
    plain = re.sub(r"[^A-Za-z0-9_./ -]", "_", name)
    plain = re.sub(r"/{2,}", "/", plain).strip("/ .") or "_"
    plain = re.sub(r"(?<=/)\.{1,2}(?=/)", "_", plain)
    if plain == name and len(name) <= KEY_LENGTH:
        return name
    suffix = hashlib.md5(name.encode("utf-8"), usedforsecurity=False).hexdigest()[:6]
    return f"{plain[: KEY_LENGTH - 7]}-{suffix}"


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname).1s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel("WARNING")
    os.nice(5)  # the stages need the cores more
    record()
