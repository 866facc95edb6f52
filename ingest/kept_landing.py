"""Answers that could not be landed wait in memory and land before the next one."""

import logging
from collections import deque
from collections.abc import Sequence

from ingest.landing import Landing

log = logging.getLogger(__name__)

MAX_KEPT_ROWS = 50_000
"""Rows that wait in memory for a disk, a bucket or a broker; an answer has some hundreds."""


class KeptLanding:
    """Lands answers in a folder or a bucket. An API tells a payment once, so what could not be
    landed is kept, up to ``max_rows``, each answer with its own positions, and lands in its order.
    """

    def __init__(self, landing: Landing, max_rows: int = MAX_KEPT_ROWS) -> None:
        self._landing, self._max_rows = landing, max_rows
        self._kept: deque[tuple[Sequence[str], int]] = deque()

    def land(self, lines: Sequence[str], first_position: int) -> str:
        """Land what was kept, then ``lines`` (envelopes); returns where these are.

        Raises:
            FileExistsError: these positions are taken; nothing was landed, nothing is kept.
            OSError: ``lines`` were not landed; the message says whether they are kept.
        """
        try:
            self._land_kept()
            return self._landing.land(lines, first_position)
        except FileExistsError:
            raise
        except OSError as error:
            raise OSError(f"{error}; {self._keep(lines, first_position)}") from error

    def close(self) -> None:
        """Try what was kept a last time; the log says what is lost."""
        if not self._kept:
            return
        rows = self._rows()
        try:
            self._land_kept()
        except OSError as error:
            log.error("rows that were received are lost with this process: %d: %s", rows, error)
        else:
            log.info("kept rows landed: %d", rows)

    def _land_kept(self) -> None:
        while self._kept:
            lines, first_position = self._kept[0]
            try:
                self._landing.land(lines, first_position)
            except FileExistsError as error:
                log.error("rows that were received are lost: %d: %s", len(lines), error)
            self._kept.popleft()

    def _keep(self, lines: Sequence[str], first_position: int) -> str:
        if self._rows() + len(lines) > self._max_rows:
            return f"{len(lines)} rows are lost, as {self._rows():,} wait already"
        self._kept.append((lines, first_position))
        return f"{self._rows():,} rows go out before the next answer"

    def _rows(self) -> int:
        return sum(len(lines) for lines, _ in self._kept)
