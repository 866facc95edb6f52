"""The payments that are measured: made from a seed, the same wherever and whenever.

Card holders, merchants and amounts are those of ``ingest.synthetic``; what a card buys when is
drawn more simply, and much faster. The clock is one of its own: the past fills 30 days before
``BEGIN``, and from there on the payments follow one another by a millisecond, however many cards
there are.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from ingest.synthetic_habits import HABITS, scaled_amounts
from ingest.synthetic_population import MERCHANTS_PER_CATEGORY, Population, make_population
from jobs.arrivals import card_bucket, identifier_bucket, in_parts, place_of
from jobs.bucket import Chunk
from jobs.feature_arrays import text_hash
from jobs.first_arrival import Identifiers
from jobs.history import Integers, Records

BEGIN = datetime(2025, 6, 2, 22, 15, tzinfo=UTC)
"""Event time of the first payment: late in the evening, so that large amounts become hits."""

SOURCE = "benchmark"
HISTORY_DAYS = 30
FRAUD_SHARE = 0.005
_BEGIN_MS = int(BEGIN.timestamp() * 1000)
_DAY_MS = 86_400_000
_RECEIPT_MS = 500  # from the payment to its receipt
_PART = 1_000_000
_GENUINE = [habit.genuine.amounts_usd for habit in HABITS]
_FRAUD = [habit.fraud.amounts_usd for habit in HABITS]
_GENUINE_SHARES = np.cumsum([habit.genuine.share for habit in HABITS])
_FRAUD_SHARES = np.cumsum([habit.fraud.share for habit in HABITS])


@dataclass(frozen=True)
class Drawn:
    """Payments as they are drawn, arrays of one length: numbers of ``card``, ``category`` and
    ``merchant``, ``amount`` in US dollars, epoch ``milliseconds``.
    """

    card: Integers
    category: Integers
    merchant: Integers
    amount: npt.NDArray[np.float64]
    milliseconds: Integers
    is_fraud: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Workload:
    """The payments of ``cards`` cards. Equal arguments give equal payments."""

    cards: int
    history_per_card: int
    seed: int = 1
    population: Population = field(init=False, repr=False)
    hashes: Integers = field(init=False, repr=False)
    categories: npt.NDArray[np.int16] = field(init=False, repr=False)
    _weights: npt.NDArray[np.float64] = field(init=False, repr=False)
    _holders: list[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        population = make_population(self.seed, self.cards)
        numbers = population.holders["cc_num"].to_numpy(dtype=object)
        names = np.array([habit.category for habit in HABITS], dtype=object)
        values = {
            "population": population,
            "hashes": text_hash(numbers),
            "categories": text_hash(names).astype(np.int16),
            "_weights": np.cumsum(population.payments_per_day),
            "_holders": _holder_fields(population),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def past(self, buckets: int) -> Iterator[tuple[int, Chunk]]:
        """What a new checkpoint is to remember: keys of the state (``jobs.arrivals``) and chunks of
        theirs. The identifiers are random: no payment that follows has one of them.
        """
        records, identifiers = self.remembered()
        keys = card_bucket(records.card, buckets)
        for bucket, places in _places(keys):
            chunk = Chunk(records.take(places), identifiers.take(places))
            yield from ((bucket, part) for part in in_parts(chunk, records.card[places]))
        for bucket, places in _places(identifier_bucket(identifiers.high, buckets)):
            chunk = Chunk(Records.empty(), identifiers.take(places))
            yield from ((bucket, part) for part in in_parts(chunk, chunk.identifiers.high))

    def remembered(self) -> tuple[Records, Identifiers]:
        """The past, in order of arrival."""
        drawn = self.drawn_past()
        rng = np.random.default_rng([self.seed, self.cards, 2])
        n = len(drawn.card)
        arrived_ms = drawn.milliseconds + _RECEIPT_MS
        records = Records(
            card=self.hashes[drawn.card],
            time=drawn.milliseconds,
            cents=np.rint(drawn.amount * 100).astype(np.int64),
            category=self.categories[drawn.category],
            day=(arrived_ms // _DAY_MS).astype(np.uint16),
        )
        identifiers = Identifiers(
            high=rng.integers(-(2**63), 2**63 - 1, n),
            low=rng.integers(0, 2**32, n, np.uint32),
            arrived_at=(arrived_ms // 1000).astype(np.uint32),
        )
        return records, identifiers

    def drawn_past(self) -> Drawn:
        """The 30 days before ``BEGIN``, in order of time."""
        n = self.cards * self.history_per_card
        rng = np.random.default_rng([self.seed, self.cards, 0])
        times = np.sort(rng.integers(_BEGIN_MS - HISTORY_DAYS * _DAY_MS, _BEGIN_MS, n))
        parts = [self._draw(rng, times[start : start + _PART]) for start in range(0, n, _PART)]
        names = Drawn.__dataclass_fields__
        return Drawn(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def drawn(self, first: int, count: int) -> Drawn:
        """The payments at the positions from ``first`` on."""
        rng = np.random.default_rng([self.seed, self.cards, 1, first])
        return self._draw(rng, _BEGIN_MS + np.arange(first, first + count))

    def _draw(self, rng: np.random.Generator, times: Integers) -> Drawn:
        n = len(times)
        card = np.searchsorted(self._weights, rng.random(n) * self._weights[-1])
        card = np.minimum(card, self.cards - 1)
        is_fraud = rng.random(n) < FRAUD_SHARE
        share = rng.random(n)
        category = np.where(
            is_fraud,
            np.searchsorted(_FRAUD_SHARES, share * _FRAUD_SHARES[-1]),
            np.searchsorted(_GENUINE_SHARES, share * _GENUINE_SHARES[-1]),
        )
        score = rng.standard_normal(n)
        amount = np.where(
            is_fraud,
            scaled_amounts(_FRAUD, category, score),
            scaled_amounts(_GENUINE, category, score),
        )
        merchant = category * MERCHANTS_PER_CATEGORY
        merchant += rng.integers(MERCHANTS_PER_CATEGORY, size=n)
        return Drawn(card, category, merchant, amount, times, is_fraud)

    def lines(self, first: int, count: int) -> list[str]:
        """The payments at the positions from ``first`` on, as ingest lands them: one envelope a
        line, with every field of the API; without line ends.
        """
        drawn = self.drawn(first, count)
        rng = np.random.default_rng([self.seed, self.cards, 3, first])
        merchants = [json.dumps(name)[1:-1] for name in self.population.merchants["merchant"]]
        categories = [habit.category for habit in HABITS]
        received = (drawn.milliseconds + _RECEIPT_MS).astype("datetime64[ms]")
        numbers = rng.bytes(16 * count).hex()
        columns = zip(
            drawn.card.tolist(),
            drawn.category.tolist(),
            drawn.merchant.tolist(),
            drawn.amount.tolist(),
            drawn.milliseconds.tolist(),
            drawn.is_fraud.astype(int).tolist(),
            np.datetime_as_string(received, unit="ms").tolist(),
            *(
                (self.population.holders[name].to_numpy()[drawn.card] + rng.uniform(-1, 1, count))
                .round(6)
                .tolist()
                for name in ("lat", "long")
            ),
            strict=True,
        )
        return [
            f'{{"source": "{SOURCE}", "position": {first + row}, "received_at": "{at}+00:00", '
            f'"encoding": "text", "payload": "{{{self._holders[card]}, '
            f'\\"merchant\\": \\"{merchants[merchant]}\\", '
            f'\\"category\\": \\"{categories[category]}\\", \\"amt\\": {amount}, '
            f'\\"trans_num\\": \\"{numbers[32 * row : 32 * row + 32]}\\", '
            f'\\"merch_lat\\": {north}, \\"merch_long\\": {east}, \\"is_fraud\\": {fraud}, '
            f'\\"current_time\\": {time}}}"}}'
            for row, (card, category, merchant, amount, time, fraud, at, north, east) in enumerate(
                columns
            )
        ]

    def places_of(self, first: int, count: int, buckets: int) -> Integers:
        """The number of the bucket of each payment's card, at the positions from ``first`` on."""
        return place_of(self.hashes[self.drawn(first, count).card], buckets)


def _places(keys: Integers) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    order = np.argsort(keys, kind="stable")
    found, first = np.unique(keys[order], return_index=True)
    yield from zip(found.tolist(), np.split(order, first[1:]), strict=True)


def _holder_fields(population: Population) -> list[str]:
    """The fields of each card holder, as they stand in a payload within an envelope."""
    holders = population.holders.assign(
        cc_num=population.holders["cc_num"].astype(np.int64),
        zip=population.holders["zip"].astype(np.int64),
    )
    return [json.dumps(json.dumps(row)[1:-1])[1:-1] for row in holders.to_dict("records")]
