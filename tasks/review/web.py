"""`python -m tasks review web`: the queue on a page of this machine, one question at a time, answered by one key.

    GET  /                       the page
    GET  /questions                    [{"name", "image_id", "reason", "given", "score"}], those without an answer;
                                       then [{"image_id", "others"}]: is the picture a duplicate of the others?
    GET  /pictures/{position}          the picture of a question, JPEG
    GET  /pictures/{position}/{other}  one of the others
    POST /answers                      {"position", "verdict"}: one line of verdicts.jsonl or duplicates.jsonl, at once

It needs neither FiftyOne nor MongoDB. Nothing is kept but the verdicts: who stops and comes back is asked the rest.
Requests that name another host, or come from another site's page, are refused (403).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tasks.core.errors import SourceError
from tasks.core.workspace import Workspace
from tasks.review.duplicate_verdicts import (
    DISTINCT,
    DUPLICATE,
    UNSURE,
    DuplicateVerdict,
    append_duplicate_verdicts,
)
from tasks.review.imports import Importer
from tasks.review.last_run import LastRun
from tasks.review.verdicts import append_verdicts

ABOUT_DUPLICATES = {"present": DUPLICATE, "absent": DISTINCT, "unsure": UNSURE}
HOSTS = ["127.0.0.1", "localhost", "[::1]"]


class Answer(BaseModel):
    """What the page sends."""

    position: int
    verdict: Literal["present", "absent", "unsure"]


@dataclass(frozen=True)
class ReviewPage:
    """The open questions of the last run, and where answers go.

    questions: of LastRun.open_questions, then of open_duplicates.  picture: path or address of an image -> JPEG.
    """

    questions: list[dict]
    importer: Importer
    workspace: Workspace
    picture: Callable[[str], bytes]

    @classmethod
    def of_last_run(cls, workspace: Workspace, who: str, picture: Callable[[str], bytes]) -> ReviewPage:
        """Questions that nobody has decided yet. Raises what reading the last run raises."""
        last_run = LastRun(workspace)
        importer = Importer(workspace.read("mapped.images"), last_run.taxonomy, who, "")
        questions = [*last_run.open_questions(), *last_run.open_duplicates()]
        return cls(questions, importer, workspace, picture)

    def shown(self) -> list[dict]:
        """The questions as the page shows them."""
        keys = ("name", "image_id", "reason", "given", "score")
        return [
            {"image_id": row["image_id"], "others": [other["image_id"] for other in row["others"]]}
            if "others" in row
            else {key: row[key] for key in keys}
            for row in self.questions
        ]

    def answer(self, answer: Answer) -> int:
        """Append the verdict; returns how many lines that added, 0 where it says nothing new."""
        row, when = self._question(answer.position), datetime.now(UTC).isoformat(timespec="seconds")
        if "others" in row:
            others, verdict = tuple(other["sha256"] for other in row["others"]), ABOUT_DUPLICATES[answer.verdict]
            about = DuplicateVerdict(row["sha256"], row["image_id"], others, verdict, self.importer.who, when)
            return append_duplicate_verdicts(self.workspace.paths.duplicate_verdicts, [about])
        asked = {"reason": row["reason"], "queue": row["queue"], "when": when}
        verdict = self.importer.verdict(row["image_id"], row["label"], answer.verdict, where="review web", **asked)
        return append_verdicts(self.workspace.paths.verdicts, [verdict])

    def picture_of(self, position: int, other: int | None = None) -> bytes:
        """The picture of a question, or one of its others. Raises HTTPException 404 where its file cannot be read."""
        row = self._question(position)
        if other is not None:
            if not 0 <= other < len(row.get("others", ())):
                raise HTTPException(404, f"question {position} has no other picture {other}")
            row = row["others"][other]
        try:
            return self.picture(row["uri"])
        except SourceError as error:
            raise HTTPException(404, str(error)) from error

    def _question(self, position: int) -> dict:
        if not 0 <= position < len(self.questions):
            raise HTTPException(404, f"no question {position}; there are {len(self.questions)}")
        return self.questions[position]


def create_app(page: ReviewPage) -> FastAPI:
    """The page and its addresses."""
    app = FastAPI(title="review", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    html = (Path(__file__).parent / "web.html").read_text(encoding="utf-8")

    @app.get("/")
    def whole_page() -> HTMLResponse:
        return HTMLResponse(html, headers={"Content-Security-Policy": "default-src 'self' 'unsafe-inline'"})

    @app.get("/questions")
    def questions() -> list[dict]:
        return page.shown()

    @app.get("/pictures/{position}")
    def picture(position: int) -> Response:
        return Response(page.picture_of(position), media_type="image/jpeg")

    @app.get("/pictures/{position}/{other}")
    def other_picture(position: int, other: int) -> Response:
        return Response(page.picture_of(position, other), media_type="image/jpeg")

    @app.post("/answers")
    def answer(answer: Answer, request: Request) -> dict:
        origin = request.headers.get("origin")
        if origin is not None and origin != str(request.base_url).rstrip("/"):
            raise HTTPException(403, "answers come from this page only")
        return {"added": page.answer(answer)}

    return app
