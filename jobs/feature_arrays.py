"""What features are computed from: payments as arrays, from Arrow tables or frames."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from jobs.features import FEATURE_INPUTS, Arrays
from jobs.history import Records


def records_of(arrived: Arrays) -> Records:
    """Payments as they are remembered; an amount that is missing counts as 0."""
    amount = np.nan_to_num(arrived["amt"].astype(np.float64))
    return Records(
        card=arrived["card"].astype(np.int64),
        time=arrived["event_time"].astype("datetime64[ms]").astype(np.int64),
        cents=np.rint(amount * 100).astype(np.int64),
        category=arrived["category"].astype(np.int16),
        day=arrived["day"].astype(np.uint16),
    )


def text_hash(
    texts: npt.NDArray[np.object_], key: str = "fraud-detector-0"
) -> npt.NDArray[np.int64]:
    """A 64-bit hash of each text (SipHash, as pandas has it); missing texts share one.

    Args:
        key: 16 characters.
    """
    return pd.util.hash_array(texts, hash_key=key, categorize=False).view(np.int64)


def arrays_of_table(payments: pa.Table) -> dict[str, npt.NDArray[np.generic]]:
    """What ``compute_features`` takes, from ``FEATURE_INPUTS`` (as many as there are) and
    ``received_at``: times in UTC without a zone, ``card`` and ``category`` as hashes, ``day`` of
    receipt.
    """
    names = [name for name in FEATURE_INPUTS if name in payments.column_names]
    return _arrays({name: payments[name].to_numpy() for name in [*names, "received_at"]})


def arrays_of(payments: pd.DataFrame) -> dict[str, npt.NDArray[np.generic]]:
    """The same from a frame, as ``ingest.payment_files.read_payments`` returns it or a table holds
    it; the day is that of `ingested_at`, 0 where the frame does not have it.
    """
    columns: dict[str, npt.NDArray[np.generic]] = {
        name: payments[name].to_numpy() for name in FEATURE_INPUTS
    }
    columns["event_time"] = _moments(payments["event_time"])
    columns["dob"] = _moments(payments["dob"])
    columns["received_at"] = (
        _moments(payments["ingested_at"])
        if "ingested_at" in payments
        else np.zeros(len(payments), "datetime64[us]")
    )
    return _arrays(columns)


def _arrays(columns: Arrays) -> dict[str, npt.NDArray[np.generic]]:
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "card": text_hash(columns["cc_num"].astype(object)),
        "category": text_hash(columns["category"].astype(object)).astype(np.int16),
        "event_time": columns["event_time"].astype("datetime64[us]"),
        "day": columns["received_at"].astype("datetime64[D]").astype(np.int64).astype(np.uint16),
    }
    if "dob" in columns:
        arrays["dob"] = columns["dob"].astype("datetime64[D]")
    for name in ("amt", "lat", "long", "merch_lat", "merch_long"):
        if name in columns:
            arrays[name] = columns[name].astype(np.float64)
    return arrays


def _moments(column: "pd.Series[pd.Timestamp]") -> npt.NDArray[np.generic]:
    moments = pd.to_datetime(column, utc=True).dt.tz_localize(None)
    return moments.to_numpy(dtype="datetime64[us]")
