"""Addresses and options of clients in the settings: logs show them, so they hold no secret."""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote_plus

from pydantic import AfterValidator


def absolute(path: str) -> str:
    """``path`` as it is where it has a scheme (``s3a://…``), else made absolute."""
    return path if "://" in path else str(Path(path).absolute())


_SECRET_INSIDE = re.compile(
    r"://[^/:@]*:[^@]*@|password=|(?<![\w./-])([\w.-]*(password|passwd|pwd|secret|token|credential|"
    r"signature|(api|access|account|subscription)[_-]?key)|key|sig|auth|pass)\s*=",
    re.IGNORECASE,
)


def _without_secret(address: str) -> str:
    text, further = "", address  # an address may stand within another, encoded once more
    while text != further:
        text, further = further, unquote_plus(further)
        if _SECRET_INSIDE.search(text):
            raise ValueError("a password or key does not belong into an address, which logs show")
    return address


def _without_secrets(options: dict[str, str]) -> dict[str, str]:
    for name in options:
        if re.search(
            r"pass|secret|jaas|(^|\.)key$|key\.pem|oauthbearer\.config", name, re.IGNORECASE
        ):
            raise ValueError(f"{name} may hold a password, and is not taken")
    return options


Address = Annotated[str, AfterValidator(_without_secret)]
"""Shown in logs as it is."""

Options = Annotated[dict[str, str], AfterValidator(_without_secrets)]
"""Of a client, by name; shown as they are, too."""
