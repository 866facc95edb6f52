"""Measurements in a JSON file: every one with the run it belongs to, so that a run that was stopped
goes on where it was, and a run of some parts leaves the others as they are.
"""

import json
import subprocess
import uuid
from datetime import UTC, datetime
from functools import cache
from typing import Any

from benchmarks.plan import PROJECT, Plan

Entry = dict[str, Any]


class Results:
    """The measurements of a plan, by key; the file is written with every change."""

    def __init__(self, plan: Plan) -> None:
        self._path = plan.results
        self._open_run = plan.folder / "unfinished.json"
        self.entries: dict[str, Entry] = {}
        if self._path.is_file():
            self.entries = json.loads(self._path.read_text())
        self._run = ""

    def begin(self, parts: list[str]) -> None:
        """Begin to measure ``parts``, or go on with the same parts of the same code."""
        commit = commit_of_the_code()
        if self._open_run.is_file():
            kept = json.loads(self._open_run.read_text())
            if (kept["commit"], kept["parts"]) == (commit, parts):
                self._run = str(kept["run"])
                return
        self._run = uuid.uuid4().hex
        self._open_run.parent.mkdir(parents=True, exist_ok=True)
        kept = {"commit": commit, "parts": parts, "run": self._run}
        self._open_run.write_text(json.dumps(kept))

    def has(self, key: str) -> bool:
        """Whether this run has measured it."""
        return self.entries.get(key, {}).get("run") == self._run

    def put(self, key: str, measured: Any) -> None:
        """Keep a measurement."""
        self.entries[key] = {
            "run": self._run,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit_of_the_code(),
            "measured": measured,
        }
        draft = self._path.with_suffix(".tmp")
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(self.entries, indent=1) + "\n")
        draft.replace(self._path)

    def get(self, key: str) -> Any:
        """What was measured, by whatever run; None where nothing was."""
        return self.entries.get(key, {}).get("measured")

    def finish(self) -> None:
        """All is measured: the next run begins anew."""
        self._open_run.unlink(missing_ok=True)


@cache
def commit_of_the_code() -> str:
    """Git's commit, with a mark where files other than the results were changed since; or
    "unknown".
    """
    try:
        commit = _git("rev-parse", "--short=10", "HEAD")
        own = [f":!benchmarks/{name}" for name in ("results.json", "RESULTS.md", "RESULTS.png")]
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *own)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}, with changes" if changed else commit


def _git(*arguments: str) -> str:
    told = subprocess.run(  # noqa: S603
        ["git", *arguments],  # noqa: S607
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.strip()
