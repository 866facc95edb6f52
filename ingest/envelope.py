"""The envelope: what ingest puts around each payment that it lands.

One JSON object a line: ``source``, ``position`` (grows within a source), ``received_at`` (ISO 8601,
UTC), ``encoding`` (``text``, ``base64`` or ``encrypted``) and ``payload`` (the row as received, or
what ``ingest.pan_cipher`` makes of it). ``source`` and ``position`` are the payment's address and
its place in the order of arrival.
"""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime

ENVELOPE_COLUMNS = ("source", "position", "received_at", "encoding", "payload")

ENCRYPTED = "encrypted"


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


def _as_text(payload: Payload) -> tuple[str, str]:
    if isinstance(payload, Encrypted):
        return payload.text, ENCRYPTED
    raw = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
    try:
        return raw.decode("utf-8"), "text"
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode("ascii"), "base64"
