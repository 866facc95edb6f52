"""Show what ingest landed encrypted: ``python -m ingest.reveal --config conf/local.toml FILE …``.

Needs the ``FRAUD_PAN_KEY`` that it was landed with. A file holds landed lines, or payloads of the
table `rejected`, one a line; ``-`` reads standard input. Lines that are not encrypted are passed
over. Each payload comes out as one line of JSON: ``source`` and ``position`` (null for a bare
payload), ``encoding`` (``text`` or ``base64``), ``payload``. It may hold clear card numbers.
"""

import argparse
import base64
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from conf.settings import PAN_KEY, settings_from_arguments, stop
from ingest.envelope import ENCRYPTED
from ingest.pan_cipher import PanCipher, WrongKey, pan_cipher

_FERNET_START = "gAAAAA"  # version 0x80 and the first bytes of a time before 2106


def reveal(lines: Iterable[str], cipher: PanCipher) -> Iterator[dict[str, Any]]:
    """What is encrypted in ``lines``, one after the other.

    Raises:
        ingest.pan_cipher.WrongKey: a payload was encrypted with another key.
    """
    for number, line in enumerate(lines, 1):
        address, text = _found(line.strip())
        if text is None:
            continue
        try:
            raw = cipher.decrypted(text)
        except WrongKey as error:
            raise WrongKey(f"line {number}: {error}") from error
        yield address | _readable(raw)


def _found(line: str) -> tuple[dict[str, Any], str | None]:
    address = {"source": None, "position": None}
    if line.startswith(_FERNET_START):
        return address, line
    try:
        envelope = json.loads(line)
        if envelope["encoding"] != ENCRYPTED:
            return address, None
        return {name: envelope[name] for name in address}, envelope["payload"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return address, None


def _readable(raw: bytes) -> dict[str, str]:
    try:
        return {"encoding": "text", "payload": raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {"encoding": "base64", "payload": base64.b64encode(raw).decode("ascii")}


def main() -> int:
    """Parse arguments, decrypt, print."""
    parser = argparse.ArgumentParser(description="Show what ingest landed encrypted.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="landed file, or -")
    settings, arguments = settings_from_arguments(parser)
    cipher = pan_cipher(settings)
    if cipher is None:
        stop(f"{PAN_KEY} is not set: without it nothing can be decrypted")
    try:
        with ExitStack() as stack:
            for name in arguments.files:
                lines = sys.stdin if name == "-" else stack.enter_context(open(name))
                for revealed in reveal(lines, cipher):
                    print(json.dumps(revealed))
    except (OSError, UnicodeDecodeError, WrongKey) as error:
        stop(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
