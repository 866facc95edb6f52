"""Kafka as the place where received rows land: one message a row, its value the envelope."""

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import KafkaError

from ingest.envelope import cut_line
from ingest.kept_landing import MAX_KEPT_ROWS
from ingest.landing import FileLanding
from ingest.schema import CARD_PATTERN
from ingest.topic import Delivery, Message, TopicWriter

log = logging.getLogger(__name__)

_CUT_CHARACTERS = 10_000  # at most 120 kB of JSON


class _NotWritten(NamedTuple):
    message: Message
    why: str


class KafkaLanding:
    """Lands rows in a topic, keyed by card, so that a card's rows keep their order.

    Rows of an answer that were not acknowledged are kept and go out again before the next answer's.
    A row may come to stand in the topic twice; the score job knows it by its `trans_num`. In the
    place of one that is too long for the topic its beginning lands, which is rejected with the name
    of the file that has the whole.
    """

    def __init__(self, writer: TopicWriter, too_long: Path) -> None:
        """``too_long``: the folder of those files, made when the first row needs it."""
        self._writer, self._too_long = writer, too_long
        self._kept: list[Message] = []

    def land(self, lines: Sequence[str], first_position: int) -> str:
        """Land ``lines`` (envelopes) and what was kept; returns partitions and offsets.

        Args:
            first_position: not used: a row's place is its partition and offset.

        Raises:
            OSError: not all were acknowledged. Those that were stay landed.
        """
        messages = [*self._kept, *(Message(card_of(line), line) for line in lines)]
        written = self._writer.write(messages)
        offsets, failed = written.offsets, []
        for message, error in written.failed:
            if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                failed.append(_NotWritten(message, error.str()))
                continue
            try:
                alone = self._write_alone(message)
            except OSError as problem:
                failed.append(_NotWritten(message, str(problem)))
                continue
            failed += [_NotWritten(message, why.str()) for _, why in alone.failed]
            for partition, places in alone.offsets.items():
                offsets.setdefault(partition, []).extend(places)
        self._kept = [message for message, _ in failed[:MAX_KEPT_ROWS]]
        if failed:
            raise OSError(self._problem(failed, len(messages)))
        return ", ".join(
            f"{self._writer.topic}/{partition}: {min(places)} to {max(places)}"
            for partition, places in sorted(offsets.items())
        )

    def _write_alone(self, message: Message) -> Delivery:
        """Write what was too long together with others, or else its beginning."""
        delivery = self._writer.write([message])
        if not _is_too_long(delivery):
            return delivery
        file = self._keep_whole(message.value)
        for characters in (_CUT_CHARACTERS, 0):
            cut = Message(message.key, cut_line(message.value, characters, str(file)))
            delivery = self._writer.write([cut])
            if not _is_too_long(delivery):
                break
        log.warning(
            "a row of %s bytes is too long for topic %s: only its beginning goes there, %s has all",
            f"{len(message.value):,}", self._writer.topic, file,
        )  # fmt: skip
        return delivery

    def _keep_whole(self, line: str) -> Path:
        place = int.from_bytes(hashlib.sha256(line.encode()).digest()[:8])
        files = FileLanding(self._too_long)
        with suppress(FileExistsError):  # from an earlier try
            files.land([line], place)
        return files.path(place)

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

    def _problem(self, failed: Sequence[_NotWritten], count: int) -> str:
        lost = len(failed) - len(self._kept)
        fate = f"{len(self._kept)} go out again before the next answer"
        if lost:
            fate += f", {lost} do not: too many"
        return (
            f"topic {self._writer.topic}: {len(failed)} of {count} rows not written, "
            f"{failed[0].why}; {fate}"
        )


def card_of(line: str) -> str | None:
    """The card number or token in an envelope's payload, or None where there is none to be read."""
    try:
        # As a number or as text: the same card meets in one partition.
        card = str(json.loads(json.loads(line)["payload"])["cc_num"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return card if re.fullmatch(CARD_PATTERN, card) else None


def _is_too_long(delivery: Delivery) -> bool:
    return any(error.code() == KafkaError.MSG_SIZE_TOO_LARGE for _, error in delivery.failed)
