"""Secret keys that come from the environment as text."""

import base64
import binascii
import re

KEY_BYTES = 32
_FEWEST_DISTINCT = 16  # of 32 random bytes, fewer distinct ones are a chance of 1e-12


def key_bytes(text: str) -> bytes:
    """The key that ``text`` tells as hex, or as base64 (also the URL-safe kind).

    Raises:
        ValueError: it is neither, shorter than ``KEY_BYTES``, or no random key. The message never
            holds any of it.
    """
    key = _decoded("".join(text.split()))
    if key is None or len(key) < KEY_BYTES:
        found = f"{len(text)} characters that are neither" if key is None else f"{len(key)} bytes"
        raise ValueError(
            f"expected at least {KEY_BYTES} random bytes as hex or base64, found {found}; make a "
            f"key with: openssl rand -hex {KEY_BYTES}"
        )
    if len(set(key)) < _FEWEST_DISTINCT:
        raise ValueError(
            f"expected random bytes, found {len(set(key))} distinct ones among {len(key)}; make a "
            f"key with: openssl rand -hex {KEY_BYTES}"
        )
    return key


def _decoded(text: str) -> bytes | None:
    if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", text):
        return bytes.fromhex(text)
    standard = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None
