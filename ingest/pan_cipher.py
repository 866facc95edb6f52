"""Card numbers out of everything that is landed: tokens in their place, ciphertext for the rest.

Both keys are derived from ``FRAUD_PAN_KEY`` (HKDF-SHA-256, RFC 5869, one ``info`` each), so that
neither tells the other.
"""

import hashlib
import hmac
import json
import re
from base64 import urlsafe_b64encode
from contextlib import suppress
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from conf.keys import key_bytes
from conf.settings import Settings
from ingest.card_numbers import CardNumbers, card_digits, is_card_number
from ingest.envelope import Encrypted
from ingest.schema import CARD_TOKEN_PATTERN, PAYMENT_FIELDS, TOKEN_PREFIX

_TOKEN_LETTERS = 32  # 4 bits each: two cards of a billion share a token with a chance of 1e-21
_AS_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_TIMES = tuple(f.name for f in PAYMENT_FIELDS if f.type == "integer" and f.maximum > 1e12)


class NoCardNumber(ValueError):
    """No card number can be read where it should stand."""


class WrongKey(ValueError):
    """It was not encrypted with this key, or is damaged."""


class PanCipher:
    """Replaces card numbers by tokens, and encrypts what no number can be told apart in."""

    def __init__(self, key: bytes) -> None:
        """``key``: ``conf.keys.KEY_BYTES`` random bytes or more."""
        self._token_key = _derived(key, b"fraud-detector card token")
        fernet_key = _derived(key, b"fraud-detector landed payload")
        self._fernet = Fernet(urlsafe_b64encode(fernet_key))

    def token(self, digits: str) -> str:
        """``tok_``, 32 letters of the HMAC-SHA-256 of ``digits``, ``_``, their last four: the same
        for one card, whatever came before. It has no digits but those, so that nothing that looks
        for card numbers takes it for one.
        """
        mac = hmac.new(self._token_key, digits.encode("ascii"), hashlib.sha256).hexdigest()
        letters = mac[:_TOKEN_LETTERS].translate(_AS_LETTERS)
        return f"{TOKEN_PREFIX}{letters}_{digits[-4:]}"

    def token_of(self, value: Any) -> str | None:
        """The token of a `cc_num`, also of one that is a token already; None where it is neither a
        token nor a card number (``card_digits``).
        """
        if _is_token(value):
            return str(value)
        digits = card_digits(value)
        return None if digits is None else self.token(digits)

    def tokenised(self, row: Any) -> dict[str, Any]:
        """A payment without card numbers: `cc_num` is the token, which also stands wherever else
        its digits did; what may be the number of another card is masked, but for its last four
        digits (``ingest.card_numbers``). Nothing else changes; times that are numbers and
        `trans_num`, by which verdicts name the payment, are no other card's number.

        Raises:
            NoCardNumber: ``row`` is no object, there is no number or token in its `cc_num`, or one
                in its `trans_num`.
            ValueError: two names in it differ in card numbers alone.
        """
        card = row.get("cc_num") if isinstance(row, dict) else None
        token = self.token_of(card)
        if token is None:
            raise NoCardNumber("no card number in cc_num")
        numbers = CardNumbers(card_digits(card) or "", token)
        apart = {"cc_num": token}
        if "trans_num" in row:
            name = apart["trans_num"] = row["trans_num"]
            if numbers.without(name, guess=False) != name or is_card_number(str(name)):
                raise NoCardNumber("a card number in trans_num")
        for name in _TIMES:
            if isinstance(row.get(name), int | float):
                apart[name] = numbers.without(row[name], guess=False)
        cleaned: dict[str, Any] = numbers.without(row | dict.fromkeys(apart))
        return cleaned | apart

    def protected(self, payload: str) -> str | Encrypted:
        """A decoded row (JSON text) as it may be landed: ``tokenised``, or whole as ciphertext
        where that is not possible, or a token came in the place of the number: it may stand
        anywhere then.
        """
        with suppress(ValueError, RecursionError):
            row = json.loads(payload)
            if not (isinstance(row, dict) and _is_token(row.get("cc_num"))):
                return json.dumps(self.tokenised(row))
        return self.encrypted(payload)

    def encrypted(self, payload: str | bytes) -> Encrypted:
        """``payload`` as ciphertext (Fernet: AES-128-CBC with HMAC-SHA-256)."""
        raw = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
        return Encrypted(self._fernet.encrypt(raw).decode("ascii"))

    def decrypted(self, text: str) -> bytes:
        """What was ``encrypted``.

        Raises:
            WrongKey: with another key, or it is no ciphertext.
        """
        try:
            return self._fernet.decrypt(text)
        except InvalidToken as error:
            raise WrongKey("not encrypted with this FRAUD_PAN_KEY, or damaged") from error


def pan_cipher(settings: Settings) -> PanCipher | None:
    """The cipher under ``FRAUD_PAN_KEY``; None where numbers are kept as received."""
    if settings.pan_key is None:
        return None
    return PanCipher(key_bytes(settings.pan_key.get_secret_value()))


def _is_token(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(CARD_TOKEN_PATTERN, value) is not None


def _derived(key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key)
