"""Whether every payment that the simulated API served stands in `transactions`, once."""

import time
from dataclasses import dataclass

import requests
from deltalake import DeltaTable

from conf.settings import Settings


@dataclass(frozen=True)
class Balance:
    """Payments: ``served`` by the API (each `trans_num` counts once), ``rows`` in `transactions`,
    and ``distinct`` ones among those.
    """

    served: int
    rows: int
    distinct: int

    @property
    def lost(self) -> int:
        """Served, and not in the table."""
        return self.served - self.distinct

    @property
    def twice(self) -> int:
        """Rows of payments that the table has already."""
        return self.rows - self.distinct

    @property
    def is_even(self) -> bool:
        """Whether nothing is lost and nothing stands twice."""
        return self.lost == self.twice == 0

    def __str__(self) -> str:
        return (
            f"payments served {self.served:,}, in `transactions` {self.rows:,}, "
            f"distinct {self.distinct:,}"
        )


def balance(settings: Settings, seconds: float) -> Balance:
    """The balance of a system whose ingest has ended; waits up to ``seconds`` for the score job to
    work through what landed. The simulated API (``settings.api.url``) must run still.
    """
    url = settings.api.url.replace("current-transactions", "served")
    served = int(requests.get(url, timeout=10).json()["distinct"])
    end = time.monotonic() + seconds
    while True:
        table = DeltaTable(settings.warehouse.table("transactions"))
        names = table.to_pyarrow_table(columns=["trans_num"])["trans_num"].to_pylist()
        if len(names) >= served or time.monotonic() > end:
            return Balance(served, len(names), len(set(names)))
        time.sleep(1)
