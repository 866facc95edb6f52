"""Calls at the API's pace, tried again with back-off; what they bring is landed."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
)

from ingest.call_ledger import LANDED, CallLedger
from ingest.decode import UndecodableBody, decode_body
from ingest.envelope import Encrypted, Payload, envelope_line
from ingest.landing import Landing
from ingest.pan_cipher import PanCipher
from ingest.payments_api import CallFailed

log = logging.getLogger(__name__)

_SHORTEST_SLEEP_SECONDS = 0.001  # a shorter one may not move the clock at all


class Outcome(NamedTuple):
    """How a call ended well: ``landed`` or ``printed``, the rows, and the file that has them."""

    kind: str
    rows: int
    file: str | None = None


Accept = Callable[[bytes], Outcome]
"""Takes the body of an answer; raises ``CallFailed`` where it is to be asked for again."""


class Api(Protocol):
    """What is called."""

    def fetch(self) -> bytes:
        """The body of one answer.

        Raises:
            CallFailed: there is none.
        """
        ...


@dataclass(frozen=True)
class Poller:
    """Calls an API, and hands the bodies to ``accept``.

    ``attempts`` bounds the tries of one call, ``wait_max_seconds`` the pause between two of them.
    ``clock`` tells seconds since the epoch; ``sleep`` takes seconds, and may raise to end it all.
    """

    api: Api
    ledger: CallLedger
    accept: Accept
    attempts: int
    wait_max_seconds: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]

    def run(self, max_polls: int | None = None) -> int:
        """Poll for ever, or ``max_polls`` times; returns how many of them were not missed.

        Raises:
            LedgerError: the ledger cannot be written.
        """
        polls = successes = 0
        while max_polls is None or polls < max_polls:
            polls += 1
            successes += self.poll() is not None
        return successes

    def poll(self) -> Outcome | None:
        """One call, with its retries; None where it was missed.

        Every try is a call to the API, so each waits for its turn: the pace of calls is the least
        pause there is.

        Raises:
            LedgerError: the ledger cannot be written.
        """
        retrying = Retrying(
            sleep=self.sleep,
            stop=stop_after_attempt(self.attempts),
            wait=self._wait_seconds,
            retry=retry_if_exception(_is_retryable),
            before_sleep=self._log_retry,
            reraise=True,
        )
        try:
            outcome = retrying(self._try_once)
        except CallFailed as failure:
            tries = retrying.statistics["attempt_number"]
            log.error("call missed after %d of %d tries: %s", tries, self.attempts, failure)
            return None
        retries = retrying.statistics["attempt_number"] - 1
        log.info("rows %d, file %s, retries %d", outcome.rows, outcome.file or "none", retries)
        return outcome

    def _try_once(self) -> Outcome:
        while (slot := self.ledger.take_slot(self.clock())).call is None:
            self.sleep(max(slot.wait_seconds, _SHORTEST_SLEEP_SECONDS))
        try:
            outcome = self.accept(self.api.fetch())
        except CallFailed as failure:
            self.ledger.finish_call(slot.call, self.clock(), failure.kind, file=failure.file)
            raise
        self.ledger.finish_call(slot.call, self.clock(), *outcome)
        return outcome

    def _wait_seconds(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after_seconds if isinstance(failure, CallFailed) else None
        if asked is not None:
            return min(asked, self.wait_max_seconds)
        return wait_exponential_jitter(initial=1, max=self.wait_max_seconds)(state)

    def _log_retry(self, state: RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        tries = f"try {state.attempt_number} of {self.attempts}"
        log.warning("%s: %s; again after %.1f s at the earliest", tries, failure, pause)


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, CallFailed) and error.is_retryable


@dataclass(frozen=True)
class Lander:
    """Lands the rows of an answer, or an answer that cannot be read as it came.

    ``source`` stands in every envelope; positions are at least ``first_position``. With a
    ``cipher`` no card number is landed in clear.
    """

    landing: Landing
    ledger: CallLedger
    source: str
    first_position: int
    clock: Callable[[], float]
    cipher: PanCipher | None = None

    def __call__(self, body: bytes) -> Outcome:
        """Land ``body`` as one file; an answer without rows makes none.

        Raises:
            CallFailed: the body was no answer (it is landed as one payload), or it could not be
                landed (a landing may keep it and land it later).
        """
        try:
            payloads = decode_body(body)
        except UndecodableBody as error:
            file = self._land([self.cipher.encrypted(body) if self.cipher else body])
            raise CallFailed("malformed body", f"{error}; kept in {file}", file=file) from error
        if not payloads:
            return Outcome(LANDED, 0)
        return Outcome(LANDED, len(payloads), self._land(self._protected(payloads)))

    def _protected(self, payloads: Sequence[str]) -> Sequence[Payload]:
        if self.cipher is None:
            return payloads
        protected = [self.cipher.protected(payload) for payload in payloads]
        encrypted = sum(isinstance(payload, Encrypted) for payload in protected)
        if encrypted:
            log.warning("rows landed encrypted, for their cc_num or trans_num: %d", encrypted)
        return protected

    def _land(self, payloads: Sequence[Payload]) -> str:
        received_at = datetime.fromtimestamp(self.clock(), UTC)
        first = self.ledger.reserve_positions(self.source, len(payloads), self.first_position)
        lines = [
            envelope_line(self.source, position, received_at, payload)
            for position, payload in enumerate(payloads, start=first)
        ]
        try:
            return self.landing.land(lines, first)
        except OSError as error:
            raise CallFailed("landing failed", str(error)) from error
