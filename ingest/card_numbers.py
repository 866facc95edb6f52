"""Card numbers, however they are spelled: read, found in texts, masked."""

import math
import re
import unicodedata
from decimal import Decimal
from itertools import accumulate
from typing import Any

from ingest.schema import CARD_NUMBER_PATTERN

FEWEST_DIGITS = 8
_MOST_DIGITS = 19
_UNMISTAKABLE = 13  # digits from which on a number in the midst of others is no chance

_LARGEST_EXACT = 2**53  # a larger float may have been another number

# In what `_legible` returns. `[\W_]`: whatever may stand between two digits of a known number.
_BETWEEN = re.compile(r"[\W_]+")
_EXPONENT = re.compile(r"(?<![\w.])[0-9]+(?:\.[0-9]*)?[eE][+-]?[0-9]{1,2}(?![\w.])")
_LONG = re.compile(rf"[0-9](?:(?:[\W_]*+[0-9]){{{FEWEST_DIGITS - 1}}}|[0-9.]*[eE][+-]?[0-9])")
# Times and lists of numbers have colons and commas, groups of a card number have not.
_RUN = re.compile(
    r"(?P<identifier>(?<!\w)(?:[0-9A-Fa-f]{32,}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})(?!\w))"
    r"|[0-9](?:(?:[^\w:,;]|_){0,3}+[0-9])*+"
)
_GROUP = re.compile("[0-9]+")
_TIME = re.compile("1(?:[0-9]{12}|[0-9]{15}|[0-9]{18})")  # ms, µs or ns since the epoch, to 2033
_DOUBLED = str.maketrans("0123456789", "0246813579")


def mask(number: str) -> str:
    """A card number or token without all but its last four digits."""
    return f"**** {number[-4:]}"


def card_digits(value: Any) -> str | None:
    """The digits of a card number: a whole number, a float that is one (``4.1e15``), or a text of
    either, also with blanks or dashes between digits. None where it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = re.sub(r"[\s-]", "", value) if isinstance(value, str) else _exact(value)
    if not re.fullmatch(CARD_NUMBER_PATTERN, text):
        try:
            text = _exact(float(text))
        except ValueError:
            return None
    return text if re.fullmatch(CARD_NUMBER_PATTERN, text) else None


def is_card_number(text: str) -> bool:
    """Whether ``text`` is, with anything between its digits, what may be a card's number: 13 to 19
    digits that pass the check of Luhn (ISO/IEC 7812), but no time since the epoch.
    """
    return _may_be_a_card(_BETWEEN.sub("", _legible(text)))


def hidden(text: str) -> str:
    """``text`` with ``…`` for whatever has the digits of a card number, for a message."""
    return re.sub(rf"[0-9](?:[\W_]*+[0-9]){{{FEWEST_DIGITS - 1},}}", "…", _legible(text))


class CardNumbers:
    """Takes card numbers out of a JSON value: of one that is known, whatever stands between its
    digits and whatever it is part of (if it is short: with no digit before or behind it); and what
    else may be one (``is_card_number``). Hexadecimal identifiers (UUIDs, or 32 characters and more)
    are left alone but for the known number.
    """

    def __init__(self, known: str = "", token: str = "") -> None:
        """``token`` takes the place of the digits ``known``, and a mask that of other numbers."""
        significant = known.lstrip("0")
        self._known = significant if len(significant) >= FEWEST_DIGITS else known
        self._token = token

    def without(self, value: Any, guess: bool = True) -> Any:
        """``value`` without card numbers; a number that was one has become text.

        Args:
            guess: also take out what may be a number of another card.

        Raises:
            ValueError: two names in an object differ in card numbers alone.
        """
        match value:
            case str():
                return self._text(value, guess)
            case bool() | None:
                return value
            case int() | float():
                # No shorter one is a card's; and neither NaN nor infinity.
                if not 10 ** (FEWEST_DIGITS - 1) <= abs(value) < math.inf:
                    return value
                digits = str(int(abs(value)))
                text = self._text(digits, guess)
                return value if text == digits else text
            case list():
                return [self.without(inner, guess) for inner in value]
            case dict():
                cleaned = {
                    self._text(name, guess): self.without(inner, guess)
                    for name, inner in value.items()
                }
                if len(cleaned) < len(value):
                    raise ValueError("two names that differ in card numbers alone")
                return cleaned
        return value

    def _text(self, text: str, guess: bool) -> str:
        legible = _legible(text)
        if not _LONG.search(legible):
            return text
        cleaned = _EXPONENT.sub(lambda found: self._number(found[0], guess), legible)
        if self._known and self._known in _BETWEEN.sub("", cleaned):
            cleaned = self._pattern().sub(self._token, cleaned)
        if guess:
            cleaned = _RUN.sub(_masked_run, cleaned)
        return text if cleaned == legible else cleaned

    def _number(self, text: str, guess: bool) -> str:
        """A number with an exponent: as it is, unless it is a card's."""
        digits = f"{Decimal(text):f}".partition(".")[0].lstrip("0")
        if digits and digits == self._known:
            return self._token
        return mask(digits) if guess and _may_be_a_card(digits) else text

    def _pattern(self) -> re.Pattern[str]:
        digits = r"[\W_]*+".join(self._known)
        is_short = len(self._known) < _UNMISTAKABLE
        return re.compile(rf"(?<![0-9])0*{digits}(?![0-9])" if is_short else digits)


def _legible(text: str) -> str:
    """``text`` with all digits of any script, width or position as ASCII."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text)
    return re.sub(r"(?![0-9])\d", lambda digit: str(unicodedata.decimal(digit[0])), text)


def _masked_run(found: re.Match[str]) -> str:
    """Digits with separators between them. A number begins and ends with a group of them: it may
    have others, such as a date, before and behind it.
    """
    run = found[0]
    if found["identifier"] or len(run) < _UNMISTAKABLE:
        return run
    groups = list(_GROUP.finditer(run))
    places = [0, *accumulate(len(group[0]) for group in groups)]
    digits = _Digits(_BETWEEN.sub("", run))
    parts, behind, first = [], 0, 0
    while first < len(groups):
        last = first
        for end in range(first + 1, len(places)):
            if places[end] - places[first] > _MOST_DIGITS:
                break
            if digits.may_be_a_card(places[first], places[end]):
                last = end  # the longest
        if last > first:
            number = digits.text[places[first] : places[last]]
            parts += [run[behind : groups[first].start()], mask(number)]
            behind = groups[last - 1].end()
        first = max(last, first + 1)
    return "".join([*parts, run[behind:]])


class _Digits:
    """Digits, any stretch of which is soon checked: with Luhn's sums up to each place."""

    def __init__(self, text: str) -> None:
        self.text = text
        plain, doubled = list(map(int, text)), list(map(int, text.translate(_DOUBLED)))
        self._sums = [
            [0, *accumulate(mixed)]
            for mixed in (_alternating(doubled, plain), _alternating(plain, doubled))
        ]

    def may_be_a_card(self, start: int, end: int) -> bool:
        if not _UNMISTAKABLE <= end - start <= _MOST_DIGITS:
            return False
        sums = self._sums[end % 2]  # counted from the last digit, every second one is doubled
        return (sums[end] - sums[start]) % 10 == 0 and not _TIME.fullmatch(self.text, start, end)


def _alternating(even: list[int], odd: list[int]) -> list[int]:
    mixed = even.copy()
    mixed[1::2] = odd[1::2]
    return mixed


def _may_be_a_card(digits: str) -> bool:
    return digits.isdecimal() and _Digits(digits).may_be_a_card(0, len(digits))


def _exact(number: float) -> str:
    """A number's digits, without an exponent where a float holds a whole number exactly."""
    if isinstance(number, float) and abs(number) <= _LARGEST_EXACT and number.is_integer():
        return str(int(number))
    return str(number)
