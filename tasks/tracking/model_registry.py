"""The exported file as a version of a registered model: what it takes and gives, what it is, and what it is good for.

    name      the experiment's: one registered model a project
    version   one a file: the same bytes are not registered twice
    tags      mAP, F1 and protocol, number of labels, kind of weights, commit, sha256 of the file
    aliases   `candidate` is what the last run exported, `accepted` what a person accepted; MLflow itself keeps `latest`

Load one by `mlflow.pyfunc.load_model("models:/tagwright@accepted")`, or `mlflow.onnx` for the graph.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

logger = logging.getLogger(__name__)

ARTIFACT = "model"
COMMIT = "mlflow.source.git.commit"
FIGURES = ("mAP", "OF1", "CF1")
LABELS_SHOWN = 20
TAG_LENGTH = 5000  # mlflow.utils.validation.MAX_MODEL_REGISTRY_TAG_VALUE_LENGTH is not part of its interface


def register(
    client: mlflow.MlflowClient, name: str, run_id: str, path: Path, aliases: Sequence[str], tags: Mapping[str, str]
) -> ModelVersion:
    """The version of `path`, registered unless its bytes were before, with `aliases` moved to it.

    name: of the registered model.  run_id: the run that it is of.  path: an exported ONNX file.
    tags: what else to say of a new version.  Harmless to repeat.
    Raises MlflowException when the server does not answer, or keeps no registry.
    """
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description="Multi-label tagger: uint8 images -> scores and decisions.")
    known = client.search_model_versions(f"name = '{name}' and tags.sha256 = '{sha256}'", max_results=1)
    version = (
        known[0] if known else _new_version(client, name, client.get_run(run_id), path, {**tags, "sha256": sha256})
    )
    for alias in aliases:
        client.set_registered_model_alias(name, alias, version.version)
    return version


def _new_version(client: mlflow.MlflowClient, name: str, run: Run, path: Path, tags: Mapping[str, str]) -> ModelVersion:
    import onnx

    graph = onnx.load(path)
    known = ("labels", "thresholds", "provenance")
    of_file = {p.key: json.loads(p.value) for p in graph.metadata_props if p.key in known}
    labels, provenance = of_file.get("labels", []), of_file.get("provenance", {})
    tags = {
        **tags,
        "num_labels": str(len(labels)),
        # Its hashes stay in the file: a page full of them says nothing.
        **{key: str(value) for key, value in provenance.items() if not key.endswith("_sha256")},
        **({"git.commit": run.data.tags[COMMIT]} if COMMIT in run.data.tags else {}),
    }
    signature = signature_of(graph)
    needs = [f"{package}=={importlib.metadata.version(package)}" for package in ("onnxruntime", "onnx", "numpy")]
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / ARTIFACT
        # One file, as exported. Without a list of requirements MLflow would load the model to find them.
        mlflow.onnx.save_model(graph, saved, signature=signature, pip_requirements=needs, save_as_external_data=False)
        client.log_artifacts(run.info.run_id, str(saved), ARTIFACT)
    return client.create_model_version(
        name,
        f"{run.info.artifact_uri}/{ARTIFACT}",
        run.info.run_id,
        tags={key: value[:TAG_LENGTH] for key, value in tags.items()},
        description=describe_version(
            labels, of_file.get("thresholds", []), signature.inputs.inputs[0].shape, tags, run
        ),
        await_creation_for=0,
    )


def describe_version(
    labels: Sequence[str], thresholds: Sequence[float | None], shape: Sequence[int], tags: Mapping[str, str], run: Run
) -> str:
    """Markdown for a version's page: its figures, labels and thresholds, how to use it, where its card and report are.

    thresholds: one a label, None for one that is never claimed.  shape: of the input, a free axis is -1.
    The list of versions shows the beginning of it as plain text.
    """
    figures = " · ".join(f"{name} {float(tags[name]):.4f}" for name in FIGURES if name in tags)
    protocol = f" under protocol `{tags['protocol']}`" if "protocol" in tags else ""
    written = ("never claimed" if threshold is None else f"{threshold:.3f}" for threshold in thresholds)
    shown = [f"{label} {threshold}" for label, threshold in zip(labels, written, strict=True)][:LABELS_SHOWN]
    pipeline = run.data.tags.get("mlflow.parentRunId", run.info.run_id)
    link = f"#/experiments/{run.info.experiment_id}/runs/{pipeline}/artifacts"
    return "\n\n".join(
        [
            *([f"{figures}{protocol}."] if figures else []),
            f"{len(labels)} labels and their thresholds: {', '.join(shown)}{', …' * (len(labels) > len(shown))}.",
            f"[The run that made it]({link}) has the report and the model card.",
            "```python\n"
            f'model = mlflow.pyfunc.load_model("runs:/{run.info.run_id}/{ARTIFACT}")\n'
            f'model.predict({{"images": images}})  # uint8, shape {tuple(shape)}\n'
            "```",
        ]
    )


def signature_of(graph) -> ModelSignature:
    """Names, types and shapes of an ONNX model's inputs and outputs; a free axis is -1."""
    from onnx.helper import tensor_dtype_to_np_dtype

    def schema(values) -> Schema:
        tensors = ((value.name, value.type.tensor_type) for value in values)
        return Schema(
            [
                TensorSpec(
                    tensor_dtype_to_np_dtype(tensor.elem_type),
                    [axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim],
                    name,
                )
                for name, tensor in tensors
            ]
        )

    return ModelSignature(inputs=schema(graph.graph.input), outputs=schema(graph.graph.output))
