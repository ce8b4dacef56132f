"""Who is told when nobody watches: one message to the webhook in TAGWRIGHT_WEBHOOK, where there is one.

The body is {"text": …}, as Slack, Mattermost, Discord (with /slack at the end of its address) and others take it. Told
are: a run that failed or crashed, a result that the gate refused, a review that waits. A webhook that cannot be reached
is a warning in the log, never a failed run; its address is a secret and is not written anywhere.
"""

from __future__ import annotations

import json
import logging
import urllib.request
from typing import Any

from tasks.core import environment

TIMEOUT_S = 10
MOST_CHARACTERS = 1500
log = logging.getLogger(__name__)


def tell(text: str) -> None:
    """Send one message; nothing without a webhook."""
    address = environment.webhook()
    if not address:
        return
    body = json.dumps({"text": text[:MOST_CHARACTERS]}).encode("utf-8")
    try:
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            pass
    except (OSError, ValueError) as error:
        log.warning("the webhook of TAGWRIGHT_WEBHOOK did not take the message (%s)", type(error).__name__)


def tell_of_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """Prefect's hook of a flow run that failed or crashed; the gate's refusal is one."""
    cause = str(state.message).removeprefix("Flow run encountered an exception: ")
    tell(f"{flow.name}, run {flow_run.name}: {state.name.lower()}. {cause}")


def tell_of_review(questions_at: str) -> None:
    """A review waits for its person. questions_at: how to get to the questions."""
    tell(f"tagwright: questions wait for a person: {questions_at}")
