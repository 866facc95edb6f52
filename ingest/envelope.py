"""The envelope: what ingest puts around each payment that it lands.

One JSON object a line: ``source``, ``position`` (grows within a source), ``received_at`` (ISO 8601,
UTC), ``encoding`` (``text``, ``base64`` or ``encrypted``, or that it is the beginning of a longer
one: ``cut_line``) and ``payload`` (the row as received, or what ``ingest.pan_cipher`` makes of it).
``source`` and ``position`` are the payment's address and its place in the order of arrival.
"""

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

ENVELOPE_COLUMNS = ("source", "position", "received_at", "encoding", "payload")

ENCRYPTED = "encrypted"
_CUT = re.compile(r"cut from ([0-9]{1,12}) bytes, whole in (.{1,1000})")


@dataclass(frozen=True)
class Encrypted:
    """A payload as ciphertext of ``ingest.pan_cipher``, which is ASCII text."""

    text: str


Payload = str | bytes | Encrypted


def envelope_line(source: str, position: int, received_at: datetime, payload: Payload) -> str:
    """One line, without its line end. Bytes that are no UTF-8 text are kept as base64.

    Args:
        received_at: time zone aware.
    """
    text, encoding = _as_text(payload)
    return json.dumps(
        {
            "source": source,
            "position": position,
            "received_at": received_at.astimezone(UTC).isoformat(timespec="milliseconds"),
            "encoding": encoding,
            "payload": text,
        },
        ensure_ascii=True,
    )


def cut_line(line: str, characters: int, kept_in: str) -> str:
    """The envelope ``line`` with the first ``characters`` of its payload, or without any where it
    is encrypted: a part of that cannot be read. ``cut_reason`` tells the rest.

    Args:
        kept_in: where the whole line is.
    """
    envelope = json.loads(line)
    beginning = "" if envelope["encoding"] == ENCRYPTED else envelope["payload"][:characters]
    encoding = f"cut from {len(line)} bytes, whole in {kept_in}"
    return json.dumps(envelope | {"encoding": encoding, "payload": beginning})


def cut_reason(encoding: str) -> str | None:
    """Why an envelope with this ``encoding`` has a part of its payload; None where it has all."""
    cut = _CUT.fullmatch(encoding) if encoding.isprintable() else None
    if cut is None:
        return None
    return f"too long for the topic: {int(cut[1]):,} bytes; ingest keeps the whole in {cut[2]}"


def _as_text(payload: Payload) -> tuple[str, str]:
    if isinstance(payload, Encrypted):
        return payload.text, ENCRYPTED
    raw = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
    try:
        return raw.decode("utf-8"), "text"
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode("ascii"), "base64"
