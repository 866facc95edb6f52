"""Kafka as the place where received rows land: one message a row, its value the envelope."""

import json
import logging
import re
from collections.abc import Sequence

from confluent_kafka import KafkaError

from ingest.kept_landing import MAX_KEPT_ROWS
from ingest.schema import CARD_PATTERN
from ingest.topic import Delivery, Message, TopicWriter

log = logging.getLogger(__name__)

_HOPELESS = {KafkaError.MSG_SIZE_TOO_LARGE}


class KafkaLanding:
    """Lands rows in a topic, keyed by card, so that a card's rows keep their order.

    Rows of an answer that were not acknowledged are kept and go out again before the next answer's.
    A row may come to stand in the topic twice; the score job knows it by its `trans_num`.
    """

    def __init__(self, writer: TopicWriter) -> None:
        self._writer = writer
        self._kept: list[Message] = []

    def land(self, lines: Sequence[str], first_position: int) -> str:
        """Land ``lines`` (envelopes) and what was kept; returns partitions and offsets.

        Args:
            first_position: not used: a row's place is its partition and offset.

        Raises:
            OSError: not all were acknowledged. Those that were stay landed.
        """
        messages = [*self._kept, *(Message(card_of(line), line) for line in lines)]
        delivery = self._writer.write(messages)
        self._kept = _worth_another_try(delivery)
        if delivery.failed:
            raise OSError(self._problem(delivery, len(messages)))
        return ", ".join(
            f"{self._writer.topic}/{partition}: {min(offsets)} to {max(offsets)}"
            for partition, offsets in sorted(delivery.offsets.items())
        )

    def close(self) -> None:
        """Try the kept rows a last time; the log says what is lost."""
        if not self._kept:
            return
        try:
            where = self.land([], 0)
        except OSError as error:
            log.error("rows that were received are lost with this process: %s", error)
        else:
            log.info("kept rows landed: %s", where)

    def _problem(self, delivery: Delivery, count: int) -> str:
        failed, error = len(delivery.failed), delivery.failed[0][1].str()
        lost = failed - len(self._kept)
        fate = f"{len(self._kept)} go out again before the next answer"
        if lost:
            fate += f", {lost} do not: too long for the topic, or too many"
        return f"topic {self._writer.topic}: {failed} of {count} rows not written, {error}; {fate}"


def card_of(line: str) -> str | None:
    """The card number or token in an envelope's payload, or None where there is none to be read."""
    try:
        # As a number or as text: the same card meets in one partition.
        card = str(json.loads(json.loads(line)["payload"])["cc_num"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return card if re.fullmatch(CARD_PATTERN, card) else None


def _worth_another_try(delivery: Delivery) -> list[Message]:
    kept = [message for message, error in delivery.failed if error.code() not in _HOPELESS]
    return kept[:MAX_KEPT_ROWS]
