"""The bound: what parsing, the features and the model cost alone, on one thread, without Spark."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.places import FILE_ROWS
from benchmarks.workload import Workload
from jobs.arrivals import PAYMENTS
from jobs.envelopes import MOMENT, open_files
from jobs.feature_arrays import arrays_of_table
from jobs.feature_pass import compute_features
from jobs.parse import Rules, parse_payloads
from jobs.scoring import ModelVersion, load_archive, model_columns_of
from jobs.task_output import ROWS_AT_ONCE

REPEATS = 7


class Bound:
    """Steps on one batch of ``rows`` payments, over the past of all cards."""

    def __init__(self, workload: Workload, model: ModelVersion, rows: int) -> None:
        pa.set_cpu_count(1)
        self._rows = rows
        self._files = _landed(workload.lines(0, rows))
        self._rules = Rules(max_days_ahead=1.0)
        self._payments = self._parse()
        records, _ = workload.remembered()
        self._history = records.in_order()
        features, _ = self._features()
        names = [item.name for item in model.inputs]
        columns = {n: self._payments[n] for n in PAYMENTS.names if n not in features} | features
        self._columns = model_columns_of(pa.table(columns), names)
        self._loaded = load_archive(model.archive, model.inputs)

    def measured(self) -> dict[str, list[float]]:
        """Microseconds a row of each step, once a repeat; the steps take turns."""
        steps: dict[str, Callable[[], Any]] = {
            "parse": self._parse,
            "features": self._features,
            "predict_proba": self._predict,
        }
        found: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(REPEATS):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                found[name].append((time.perf_counter() - started) * 1e6 / self._rows)
        return found

    def _parse(self) -> pa.Table:
        return parse_payloads(open_files(self._files), self._rules)

    def _features(self) -> Any:
        arrays = arrays_of_table(self._payments)
        cards = np.unique(arrays["card"]).astype(np.int64)
        return compute_features(arrays, self._history.of_cards(cards))

    def _predict(self) -> None:
        for start in range(0, self._rows, ROWS_AT_ONCE):
            self._loaded.predict(self._columns[start : start + ROWS_AT_ONCE])


def _landed(lines: list[str]) -> pa.Table:
    starts = range(0, len(lines), FILE_ROWS)
    files = ["".join(f"{line}\n" for line in lines[start : start + FILE_ROWS]) for start in starts]
    read_at = pa.repeat(pa.scalar(pd.Timestamp.now("UTC"), MOMENT), len(files))
    content = pa.array([file.encode() for file in files], pa.binary())
    return pa.table(
        {"path": ["payments.jsonl"] * len(files), "content": content, "read_at": read_at}
    )
