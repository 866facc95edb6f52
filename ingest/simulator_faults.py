"""Faults of the simulated payments API: of a whole answer, and of single rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

ANSWER_FAULTS = {
    "429": "too many calls, with Retry-After",
    "429-bare": "too many calls, without Retry-After",
    "500": "internal server error",
    "503": "service unavailable",
    "timeout": "the answer is held back, then 504",
    "drop": "the connection is closed in the middle of the body",
    "malformed": "200 with a body that ends early or is no UTF-8",
}
ROW_FAULT = "corrupt"
ROW_FAULT_MEANING = "a row with one value that cannot be, the same one each time"

CORRUPTIONS: tuple[tuple[str, Any], ...] = (
    ("amt", None),
    ("amt", -12.5),
    ("amt", float("nan")),
    ("amt", "twelve"),
    ("cc_num", None),
    ("cc_num", "4000-12"),
    ("dob", "1985-02-30"),
    ("lat", 1234.5),
    ("merch_long", "west"),
    ("city_pop", -1),
    ("is_fraud", None),
    ("trans_num", None),
    ("current_time", "yesterday"),
    ("current_time", None),
)
"""Column and wrong value, one of which makes a row corrupt."""

_BLOCK = 4096


class FaultError(ValueError):
    """A description of faults does not hold; the message says which ones there are."""


@dataclass(frozen=True)
class Faults:
    """How often which fault happens.

    Attributes:
        answers: probability of each of ``ANSWER_FAULTS`` by name; at most 1 together, as a call
            has one fault or none.
        corrupt: probability that a row is corrupt.
    """

    answers: Mapping[str, float]
    corrupt: float = 0.0

    def of_call(self, draw: float) -> str | None:
        """The fault of a call, by a uniform random number from 0 to 1."""
        for name, probability in self.answers.items():
            draw -= probability
            if draw < 0:
                return name
        return None

    def is_corrupt(self, seed: int, first: int, stop: int) -> NDArray[np.bool_]:
        """Which of the rows ``first`` to ``stop`` (exclusive) are corrupt, the same each time."""
        if not self.corrupt or stop <= first:
            return np.zeros(max(stop - first, 0), dtype=bool)
        blocks = range(first // _BLOCK, (stop - 1) // _BLOCK + 1)
        draws = np.concatenate([_draws(seed, block)[0] for block in blocks])
        begin = blocks[0] * _BLOCK
        return np.asarray(draws[first - begin : stop - begin] < self.corrupt)


def parse_faults(text: str) -> Faults:
    """Faults from ``name=probability`` with commas between, as in ``500=0.1,corrupt=0.01``.

    Raises:
        FaultError: an unknown name, one given twice, no number from 0 to 1, or more than 1 in all.
    """
    found: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (part.strip() for part in item.partition("="))
        if name not in ANSWER_FAULTS and name != ROW_FAULT:
            raise FaultError(f"unknown fault {name!r}; there are {fault_names()}")
        if name in found:
            raise FaultError(f"fault {name} is given twice")
        found[name] = _probability(name, value)
    corrupt = found.pop(ROW_FAULT, 0.0)
    if sum(found.values()) > 1 + 1e-9:
        raise FaultError(f"the faults of an answer add up to {sum(found.values()):g}, more than 1")
    return Faults(found, corrupt)


def fault_names() -> str:
    """The names of all faults, with commas between."""
    return ", ".join((*ANSWER_FAULTS, ROW_FAULT))


def corrupted(seed: int, row: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """The ``values`` of row number ``row`` by column, one of them made wrong."""
    choice = int(_draws(seed, row // _BLOCK)[1, row % _BLOCK] * len(CORRUPTIONS))
    column, wrong = CORRUPTIONS[choice]
    return {**values, column: wrong}


def _probability(name: str, text: str) -> float:
    try:
        probability = float(text)
    except ValueError:
        probability = -1.0
    if not 0 <= probability <= 1:
        raise FaultError(
            f"fault {name}: expected a probability from 0 to 1, found {text!r}; "
            f"there are {fault_names()}"
        )
    return probability


@lru_cache(maxsize=4)
def _draws(seed: int, block: int) -> NDArray[np.float64]:
    return np.random.default_rng([seed, block]).random((2, _BLOCK))
