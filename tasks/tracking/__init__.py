"""What each run measured, in MLflow: one parent run a pipeline run, one child a stage, learning curves live.

A stage does not talk to MLflow. It appends lines to a journal (`journal.py`: microseconds, stdlib only), and one
recorder process a pipeline (`recorder.py` with `model_registry.py`: the only imports of mlflow) applies them meanwhile:

    stage  --append-->  .mlflow/journal/<name>/  --recorder-->  .mlflow/mlflow.db, or MLFLOW_TRACKING_URI

Why: importing mlflow and opening its database takes seconds of a core, which each of the stages would pay; a tracking
server that is slow or away must not stop a training; and a journal survives SIGKILL, so that a killed stage is
continued in the same run. The recorder ends with the pipeline it records; what it could not deliver waits in the
journal for the next one. It runs at a low priority and writes to `.mlflow/recorder.log`.

Off where mlflow is not installed (one warning), on ranks other than 0, and with TAGWRIGHT_TRACKING=off.
"""

from tasks.tracking.stage_runs import (
    PARENT_VARIABLE,
    commit_of_code,
    link_cached,
    log_files,
    log_headline,
    log_metrics,
    log_table,
    page,
    pipeline_run,
    promote,
    register_model,
    run_name,
    set_tags,
    stage_run,
)

__all__ = [
    "PARENT_VARIABLE",
    "commit_of_code",
    "link_cached",
    "log_files",
    "log_headline",
    "log_metrics",
    "log_table",
    "page",
    "pipeline_run",
    "promote",
    "register_model",
    "run_name",
    "set_tags",
    "stage_run",
]
