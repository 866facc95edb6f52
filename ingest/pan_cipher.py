"""Card numbers out of everything that is landed: tokens in their place, ciphertext for the rest.

Both keys are derived from ``FRAUD_PAN_KEY`` (HKDF-SHA-256, RFC 5869, one ``info`` each), so that
neither tells the other.
"""

import hashlib
import hmac
import json
import re
from base64 import urlsafe_b64encode
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from conf.keys import key_bytes
from conf.settings import Settings
from ingest.envelope import Encrypted
from ingest.schema import CARD_NUMBER_PATTERN, CARD_TOKEN_PATTERN, TOKEN_PREFIX

_TOKEN_LETTERS = 32  # 4 bits each: two cards of a billion share a token with a chance of 1e-21
_AS_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_LARGEST_EXACT = 2**53  # a larger float may have been another number


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
        if isinstance(value, str) and re.fullmatch(CARD_TOKEN_PATTERN, value):
            return value
        digits = card_digits(value)
        return None if digits is None else self.token(digits)

    def tokenised(self, row: Any) -> dict[str, Any]:
        """A payment without its card number: `cc_num` is the token, which also stands wherever else
        the same digits did, in names, texts and numbers, with blanks or dashes between them or
        not. `trans_num` is never changed: verdicts name the payment by it.

        Raises:
            NoCardNumber: ``row`` is no object, there is no number or token in its `cc_num`, or two
                names in it differ in the number alone.
        """
        card = row.get("cc_num") if isinstance(row, dict) else None
        token = self.token_of(card)
        if token is None:
            raise NoCardNumber("no card number in cc_num")
        if token == card:
            return dict(row)
        number = re.compile(r"[\s-]*".join(card_digits(card) or ""))
        cleaned: dict[str, Any] = _without(row, number, token)
        kept = {"trans_num": row["trans_num"]} if "trans_num" in row else {}
        return cleaned | {"cc_num": token} | kept

    def protected(self, payload: str) -> str | Encrypted:
        """A decoded row (JSON text) as it may be landed: ``tokenised``, or whole as ciphertext
        where no number can be read in its `cc_num`: it may stand anywhere then.
        """
        try:
            return json.dumps(self.tokenised(json.loads(payload)))
        except (NoCardNumber, RecursionError):
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


def card_digits(value: Any) -> str | None:
    """The digits of a card number: a whole number, a float that is one (``4.1e15``), or a text of
    either, also with blanks or dashes between digits. None where it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = re.sub(r"[\s-]", "", value) if isinstance(value, str) else _plain(value)
    if not re.fullmatch(CARD_NUMBER_PATTERN, text):
        try:
            text = _plain(float(text))
        except ValueError:
            return None
    return text if re.fullmatch(CARD_NUMBER_PATTERN, text) else None


def _plain(number: float) -> str:
    """A number's digits, without an exponent where a float holds a whole number exactly."""
    if isinstance(number, float) and abs(number) <= _LARGEST_EXACT and number.is_integer():
        return str(int(number))
    return str(number)


def _without(value: Any, number: re.Pattern[str], token: str) -> Any:
    match value:
        case dict():
            cleaned = {
                number.sub(token, name): _without(inner, number, token)
                for name, inner in value.items()
            }
            if len(cleaned) < len(value):
                raise NoCardNumber("two names that differ in the card number alone")
            return cleaned
        case list():
            return [_without(inner, number, token) for inner in value]
        case str():
            return number.sub(token, value)
        case int() | float():
            text = _plain(value)
            return number.sub(token, text) if number.search(text) else value
    return value


def _derived(key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key)
