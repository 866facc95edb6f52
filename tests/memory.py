"""The state of a query and its worker processes, as plain Python."""

from collections import OrderedDict, defaultdict
from contextlib import contextmanager
from copy import deepcopy

import pytest

from jobs import bucket as bucket_module
from jobs.arrivals import cut_into_buckets, judge_cards, judge_identifiers
from jobs.blocks import from_block, join_blocks
from jobs.bucket import append_chunk, keep_bucket, load_bucket, pieces_of

SECONDS_A_DAY = 86_400
NOW = 40_000 * SECONDS_A_DAY  # later than any test's receipts


class DictStorage:
    """A bucket's part of the state."""

    def __init__(self):
        self.names, self.chunks, self.reads = [], {}, []

    def read_names(self):
        return list(self.names)

    def write_names(self, names):
        self.names = list(names)

    def read(self, name):
        self.reads.append(name)
        return self.chunks[name]

    def write(self, name, chunk):
        assert name not in self.chunks
        self.chunks[name] = chunk

    def remove(self, name):
        del self.chunks[name]

    def copy(self):
        return deepcopy(self)

    def pieces(self, first=0):
        """What the chunks from the ``first`` on are stored under."""
        return [piece for name in self.names[first:] for piece in pieces_of(name)]


class Worker:
    """A worker process: a memory of its own."""

    def __init__(self):
        self._cache = OrderedDict()

    @contextmanager
    def at_work(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bucket_module, "_cache", self._cache)
            yield

    def load(self, storage, number=0):
        with self.at_work():
            return load_bucket(number, storage)

    def remember(self, storage, chunk, horizon_seconds=30 * SECONDS_A_DAY, number=0, now=NOW):
        """What a micro-batch does with a bucket."""
        with self.at_work():
            bucket = load_bucket(number, storage)
            append_chunk(bucket, chunk, storage, horizon_seconds, now)
            keep_bucket(number, bucket)


class Detector:
    """What the query does with parsed rows, without Spark."""

    def __init__(self, buckets=3, seen_days=30):
        self._buckets, self._horizon = buckets, seen_days * SECONDS_A_DAY
        self._state = defaultdict(DictStorage)
        self._worker = Worker()

    def arrive(self, *tables):
        """A micro-batch, parsed in parts: payments (but the duplicates), rejected rows, and the
        addresses of duplicates; each a list.
        """
        blocks = defaultdict(list)
        for table in tables:
            for key, block in cut_into_buckets(table, self._buckets):
                blocks[key].append(block)
        outputs = [self._judge(key, some) for key, some in blocks.items()]
        payments, rejected, duplicates = (
            [row for out in outputs if kind in out for row in from_block(out[kind]).to_pylist()]
            for kind in ("payments", "rejected", "duplicates")
        )
        taken = [(row["source"], row["position"]) for row in duplicates]
        assert sum(out["valid"] for out in outputs if out) == len(payments)
        assert sum(out["invalid"] for out in outputs if out) == len(rejected)
        assert sum(out["received"] for out in outputs if out) == sum(map(len, tables))
        # The job takes their number from that of the valid ones.
        assert len(taken) == len(set(taken))
        assert set(taken) <= {(row["source"], row["position"]) for row in payments}
        kept = [row for row in payments if (row["source"], row["position"]) not in taken]
        return kept, rejected, taken

    def _judge(self, key, blocks):
        arrived = join_blocks(blocks)
        arrived = arrived.sort_by([("source", "ascending"), ("position", "ascending")])
        judge = judge_cards if key >= 0 else judge_identifiers
        output, chunk = judge(arrived, self._worker.load(self._state[key], key), self._horizon)
        self._worker.remember(self._state[key], chunk, self._horizon, key)
        return output
