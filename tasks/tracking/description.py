"""What MLflow's page of a pipeline run says in words: its figures, what ran, from which commit, with which params."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def describe(
    *,
    headline: Mapping[str, float],
    ran: Mapping[str, float],
    failed: Sequence[str],
    from_cache: Sequence[str],
    tags: Mapping[str, str],
    params: Mapping[str, str],
    files: Sequence[str],
) -> str:
    """Markdown for `mlflow.note.content`.

    headline: metric -> value.  ran: stage -> seconds, in order.  failed: stages that failed or were stopped.
    from_cache: stages of which DVC had the result.  tags: of the run.  params: those that differ from the commit's.
    files: names of the run's artifacts.
    """
    parts = [" · ".join(f"**{name} {value:.4f}**" for name, value in headline.items())]
    if ran:
        parts.append("Ran: " + ", ".join(f"`{stage}` ({seconds:.0f} s)" for stage, seconds in ran.items()) + ".")
    if failed:
        parts.append("Failed or stopped: " + ", ".join(f"`{stage}`" for stage in failed) + ".")
    if from_cache and not ran and not failed:
        parts.append(
            f"Nothing had changed: {len(from_cache)} stages were up to date. The figures are of their results."
        )
    elif from_cache:
        parts.append(f"Up to date: {len(from_cache)} stages.")
    if commit := tags.get("mlflow.source.git.commit"):
        dirty = ", with uncommitted changes" if tags.get("git.dirty") == "true" else ""
        parts.append(f"Commit `{commit[:12]}`{dirty}; the hashes of what was read and written are in its `dvc.lock`.")
    if flow_run := tags.get("prefect.flow_run"):
        parts.append(f"Prefect flow run `{flow_run}`.")
    if params:
        rows = "\n".join(f"| `{name}` | `{value.replace('|', '/')}` |" for name, value in params.items())
        parts.append(f"Params that differ from the commit:\n\n| param | value |\n|---|---|\n{rows}")
    if files:
        parts.append("Under Artifacts: " + ", ".join(f"`{name}`" for name in files) + ".")
    return "\n\n".join(filter(None, parts))
