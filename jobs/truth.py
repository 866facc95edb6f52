"""What is known of payments at a time: fraud, genuine, or nothing yet."""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from jobs.windows import Floats


def known_truth(
    payments: pd.DataFrame, verdicts: pd.DataFrame, as_of: datetime, maturity_days: float
) -> Floats:
    """The truth as known at ``as_of`` (UTC): 1.0 fraud, 0.0 genuine, NaN not known yet.

    A verdict tells it, if one stands; without one, a payment that was received ``maturity_days`` or
    longer before ``as_of`` counts as genuine: who was robbed has reported it by then. What the
    model said of the payment plays no part.

    Args:
        payments: n rows with `trans_num` and `ingested_at` (UTC), received until ``as_of``.
        verdicts: ``jobs.label_ledger.standing_verdicts(…, as_of)``.

    Returns:
        float64 of shape (n,).
    """
    told = payments["trans_num"].map(verdicts["label"].astype(np.float64)).to_numpy(np.float64)
    matured = payments["ingested_at"] <= as_of - timedelta(days=maturity_days)
    return np.where(np.isnan(told) & matured.to_numpy(), 0.0, told)
