"""The simulated payments API's HTTP side."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from starlette.background import BackgroundTask
from starlette.types import Receive, Scope, Send

from ingest.simulator_answers import JSON_TYPE, Answer, CurrentTransactions, Progress
from ingest.simulator_sources import Anchor


class CursorError(ValueError):
    """A cursor file does not fit; the message names it and says what to do."""


class CutResponse(Response):
    """Announces the whole body, sends half of it and leaves the rest to a closed connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ``Response``."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        # The server closes the connection of an application that returns with more to come.
        await send({"type": "http.response.body", "body": half, "more_body": True})


class CursorFile:
    """A file that remembers how far the API got, for the payments of one source."""

    def __init__(self, path: str | Path, source_name: str) -> None:
        self._path, self._source_name = Path(path), source_name

    def load(self) -> tuple[Progress, Anchor]:
        """What was saved last, or the beginning where there is no file.

        Raises:
            CursorError: the file is of another source, or was not written by ``save``.
        """
        if not self._path.exists():
            return Progress(), (0, 0)
        try:
            saved = json.loads(self._path.read_text())
            progress, (row, day) = Progress(**saved["progress"]), saved["anchor"]
            name = saved["source"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CursorError(
                f"{self._path}: no cursor of this API ({error}); delete it"
            ) from error
        if name != self._source_name:
            raise CursorError(
                f"{self._path}: is the cursor of {name}, expected {self._source_name}; "
                "delete it or name another one with --cursor"
            )
        return progress, (row, day)

    def save(self, progress: Progress, anchor: Anchor) -> None:
        """Remember ``progress``; a reader finds the old file or the new one, never a part."""
        saved = {"source": self._source_name, "progress": asdict(progress), "anchor": anchor}
        written = self._path.with_name(f".{self._path.name}.tmp")
        written.write_text(json.dumps(saved))
        os.replace(written, self._path)


def create_app(
    api: CurrentTransactions,
    *,
    save: Callable[[], None] = lambda: None,
    hold: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> FastAPI:
    """The HTTP application on ``api``: ``/current-transactions`` and ``/served``.

    Args:
        save: called after a delivered answer was sent. Whoever stops between the two finds the
            answer's payments served again, never left out.
        hold: waits for so many seconds.
    """
    app = FastAPI(title="Simulated payments API", docs_url=None, redoc_url=None)

    async def save_progress() -> None:
        save()

    @app.get("/current-transactions")
    async def current_transactions() -> Response:
        answer = api.answer()
        if answer.hold_seconds:
            await hold(answer.hold_seconds)
        background = BackgroundTask(save_progress) if answer.is_delivered else None
        return _response(answer, background)

    @app.get("/served")
    def served(list: bool = False) -> dict[str, Any]:  # the query's own name
        return api.served(with_list=list)

    return app


def _response(answer: Answer, background: BackgroundTask | None) -> Response:
    kind = CutResponse if answer.is_cut else Response
    return kind(answer.body, answer.status, dict(answer.headers), JSON_TYPE, background)
