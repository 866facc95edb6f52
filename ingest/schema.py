"""The payment, once: its fields, their types and the values that can be.

The Spark schema, the checks of the score job, the CSV reader and the check of a single payment are
all made from ``PAYMENT_FIELDS``.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

FieldType = Literal["text", "card", "number", "integer", "date", "timestamp"]

TOKEN_PREFIX = "tok_"  # noqa: S105
CARD_NUMBER_PATTERN = r"^[0-9]{8,19}$"
CARD_TOKEN_PATTERN = r"^tok_[a-p]{32}_[0-9]{4}$"  # noqa: S105
CARD_PATTERN = f"{CARD_NUMBER_PATTERN}|{CARD_TOKEN_PATTERN}"
"""A card number, or what ``ingest.pan_cipher`` puts in its place."""

DATE_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
TIMESTAMP_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-5][0-9]$"
EARLIEST_EVENT = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_EVENT = datetime(2200, 1, 1, tzinfo=UTC)
EARLIEST_DATE = date(1850, 1, 1)
LARGEST_MILLISECONDS = 1e14
LARGEST_NUMBER = 2.0**53  # beyond it a float does not tell neighbouring whole numbers apart


@dataclass(frozen=True)
class PaymentField:
    """One field of a payment.

    ``text`` is any text (a number is kept as its text), ``card`` 8 to 19 digits or a token of
    ``ingest.pan_cipher``, ``number`` a finite float, ``integer`` a whole number, ``date``
    ``YYYY-MM-DD``, ``timestamp`` ``YYYY-MM-DD HH:MM:SS`` in UTC. ``minimum`` and ``maximum`` are
    inclusive.
    """

    name: str
    type: FieldType
    meaning: str
    required: bool = True
    minimum: float = -LARGEST_NUMBER
    maximum: float = LARGEST_NUMBER

    @property
    def expectation(self) -> str:
        """What a value must be, in words, for the reason of a rejection."""
        words = {
            "text": "text",
            "card": "8 to 19 digits",
            "number": "a finite number",
            "integer": "a whole number",
            "date": f"a date YYYY-MM-DD not before {EARLIEST_DATE}",
            "timestamp": "a time YYYY-MM-DD HH:MM:SS",
        }[self.type]
        if self.name in NON_EMPTY:
            words = "text that is not empty"
        if self.type in ("number", "integer") and self.maximum < LARGEST_NUMBER:
            words += f" from {self.minimum:.12g} to {self.maximum:.12g}"
        return words


NON_EMPTY = frozenset({"trans_num"})

PAYMENT_FIELDS = (
    PaymentField("cc_num", "card", "card number, or its token"),
    PaymentField("merchant", "text", "name of the merchant"),
    PaymentField("category", "text", "kind of merchant, such as grocery_pos"),
    PaymentField("amt", "number", "amount in US dollars", minimum=0, maximum=1e10),
    PaymentField("first", "text", "card holder's first name"),
    PaymentField("last", "text", "card holder's last name"),
    PaymentField("gender", "text", "card holder's gender"),
    PaymentField("street", "text", "card holder's street"),
    PaymentField("city", "text", "card holder's city"),
    PaymentField("state", "text", "card holder's state"),
    PaymentField("zip", "text", "card holder's postal code"),
    PaymentField("lat", "number", "card holder's latitude in degrees", minimum=-90, maximum=90),
    PaymentField("long", "number", "card holder's longitude in degrees", minimum=-180, maximum=180),
    PaymentField("city_pop", "integer", "inhabitants of the city", minimum=0, maximum=1e10),
    PaymentField("job", "text", "card holder's job"),
    PaymentField("dob", "date", "card holder's date of birth"),
    PaymentField("trans_num", "text", "identifier of the payment"),
    PaymentField("merch_lat", "number", "merchant's latitude in degrees", minimum=-90, maximum=90),
    PaymentField(
        "merch_long", "number", "merchant's longitude in degrees", minimum=-180, maximum=180
    ),
    PaymentField(
        "is_fraud", "integer", "simulated truth, never a feature or a label", minimum=0, maximum=1
    ),
    PaymentField("current_time", "integer", "time of the payment, epoch ms", required=False),
    PaymentField(
        "trans_date_trans_time", "timestamp", "time of the payment, as text", required=False
    ),
    PaymentField("unix_time", "integer", "epoch, in the source's own unit", required=False),
)

FIELD_NAMES = tuple(field.name for field in PAYMENT_FIELDS)

API_COLUMNS = tuple(
    name for name in FIELD_NAMES if name not in ("trans_date_trans_time", "unix_time")
)
"""Columns of the payments API's answer, in its order."""


_SHOWN = 100  # characters of a wrong value in a message


class InvalidPayment(ValueError):
    """A payment does not fit the schema; the message lists every problem."""


def event_time_of(trans_date_trans_time: str | None, current_time: float | None) -> datetime:
    """The one decision on a payment's time: ``trans_date_trans_time`` read as UTC where the row
    has it, else ``current_time`` (epoch milliseconds).

    Raises:
        InvalidPayment: the row has neither, or the time is not one between 1970 and 2200.
    """
    if trans_date_trans_time is not None:
        moment = _timestamp(trans_date_trans_time)
    elif current_time is not None and abs(current_time) < LARGEST_MILLISECONDS:
        moment = datetime.fromtimestamp(current_time / 1000, UTC)
    else:
        moment = None
    if moment is None or not EARLIEST_EVENT <= moment < LATEST_EVENT:
        found = trans_date_trans_time if trans_date_trans_time is not None else current_time
        raise InvalidPayment(EVENT_TIME_EXPECTATION + f", found {found!r}")
    return moment


EVENT_TIME_EXPECTATION = (
    "event time: expected trans_date_trans_time (YYYY-MM-DD HH:MM:SS) or current_time (epoch ms) "
    "between 1970 and 2200"
)


def check_payment(
    payment: Mapping[str, Any], optional: Collection[str] = ()
) -> dict[str, str | float | int | date | datetime | None]:
    """``payment`` with its values typed, and ``event_time`` beside them.

    The same rules as the score job's (a test holds the two together). ``None`` counts as missing.

    Raises:
        InvalidPayment: with every field at fault, what was expected and what is there.
    """
    values: dict[str, Any] = {}
    problems = []
    for field in PAYMENT_FIELDS:
        raw = payment.get(field.name)
        if raw is None:
            values[field.name] = None
            if field.required and field.name not in optional:
                problems.append(f"{field.name}: missing, expected {field.expectation}")
            continue
        values[field.name] = _typed(field, raw)
        if values[field.name] is None:
            problems.append(f"{field.name}: expected {field.expectation}, found {_shown(raw)}")
    try:
        values["event_time"] = event_time_of(
            values["trans_date_trans_time"], values["current_time"]
        )
        if values["dob"] is not None and values["dob"] > values["event_time"].date():
            problems.append(f"dob: after the payment, {values['dob']}")
    except InvalidPayment as error:
        problems.append(str(error))
    if problems:
        raise InvalidPayment("; ".join(problems))
    return values


def extra_of(payment: Mapping[str, Any]) -> str | None:
    """The fields of a payment that ``PAYMENT_FIELDS`` does not name, as the JSON text of an object
    (ASCII, values as received); None where there are none.

    Raises:
        InvalidPayment: they are nested too deeply to write.
    """
    extra = {name: value for name, value in payment.items() if name not in _NAMES}
    try:
        return json.dumps(extra) if extra else None
    except RecursionError as error:
        raise InvalidPayment("other fields: nested too deeply") from error


_NAMES = frozenset(FIELD_NAMES)


def _shown(raw: Any) -> str:
    try:
        text = repr(raw)
    except ValueError:  # Python writes out whole numbers of up to 4,300 digits
        text = "a whole number without end"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _typed(field: PaymentField, raw: Any) -> Any:
    if field.type in ("number", "integer"):
        return _number(field, raw)
    if isinstance(raw, dict | list):
        return None
    text = raw if isinstance(raw, str) else json.dumps(raw)
    if not is_unicode(text):
        return None
    match field.type:
        case "card":
            return text if re.fullmatch(CARD_PATTERN, text) else None
        case "date":
            return _date(text)
        case "timestamp":
            return text if _timestamp(text) is not None else None
    return text if text or field.name not in NON_EMPTY else None


def is_unicode(text: str) -> bool:
    """Whether ``text`` can be encoded: half of a surrogate pair, as JSON can tell it, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(field: PaymentField, raw: Any) -> float | int | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    # NaN is in no range; a whole number may be too long for a float.
    if not field.minimum <= raw <= field.maximum:
        return None
    if field.type == "integer":
        return int(raw) if raw == int(raw) else None
    return float(raw) + 0.0  # -0 becomes 0


def _date(text: str) -> date | None:
    if not re.fullmatch(DATE_PATTERN, text):
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day >= EARLIEST_DATE else None


def _timestamp(text: str) -> datetime | None:
    if not re.fullmatch(TIMESTAMP_PATTERN, text):
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


EXAMPLE_PAYMENT: Mapping[str, str | float | int] = {
    "cc_num": 4000123412341234,
    "merchant": "fraud_Harbour Lane Books",
    "category": "shopping_net",
    "amt": 84.5,
    "first": "Ada",
    "last": "Moreau",
    "gender": "F",
    "street": "12 Quarry Road",
    "city": "Springvale",
    "state": "OR",
    "zip": 97201,
    "lat": 45.51,
    "long": -122.68,
    "city_pop": 12400,
    "job": "Cartographer",
    "dob": "1984-03-09",
    "trans_num": "0f0e0d0c0b0a09080706050403020100",
    "merch_lat": 45.9,
    "merch_long": -122.2,
    "is_fraud": 0,
    "current_time": 1717245296000,
}
"""A payment as the API tells it: for a model's trial run, for documents and for tests."""
