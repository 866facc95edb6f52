"""Write docs/features.md from the definitions: ``python -m jobs.describe_features``."""

import inspect
from pathlib import Path

from jobs.bucket import DAYS_OF_DOUBT
from jobs.features import FEATURES, NO_WINDOW
from jobs.history import MOST_DAYS, MOST_PAYMENTS

PAGE = Path("docs/features.md")

_HEAD = f"""# Features

Made from the definitions in [jobs/features.py](../jobs/features.py) by
`python -m jobs.describe_features`; do not edit. The score job and training call the same functions.

Every feature is a `double`. A payment's history is what **arrived before it on the same card with
an event time not later than its own**, and is still remembered: a card's memory holds what arrived
at most {MOST_DAYS} days before (by the calendar, UTC), and of that the latest {MOST_PAYMENTS:,}
payments by event time. Where a window is empty, counts and sums are 0 and everything else is
missing (NaN).

- **Two payments in the same second** (or millisecond): what arrived first is history of the other.
- **A duplicate** (a `trans_num` that was seen before) is no payment: it has no row and is in
  nobody's history. A payment whose `trans_num` another card used before has no row either, but
  stays in the history of its own card.
- **A late payment** sees what its event time lets it see; payments that were scored before it came
  keep their features.
- **A clock that jumps back or ahead** spoils nothing beyond the payments that it dates: a payment
  dated in the future is history only for payments dated later still. (On a card with more than
  {MOST_PAYMENTS:,} payments it takes a place in the memory, though.)
- **Payments that arrive newest first** cost time: within a micro-batch, each step back on one card
  is a pass of its own over that card's payments. A hundred steps take some 0.1 s, 10,000 on one
  card 10 to 20 s; different cards share the passes. Let a source send the oldest first.
- **A card with more than {MOST_PAYMENTS:,} payments in a window** counts and adds up those of the
  latest {MOST_PAYMENTS:,} that are not later than the payment.
- **Sources that lag**: what arrives (`received_at`) up to {DAYS_OF_DOUBT} days later in one source
  than in another finds its card's history whole; of what lags more, some may be forgotten.
- A window of 24 h holds event times in (t - 24 h, t], the payment itself left out; days begin at
  midnight, UTC.
"""


def page() -> str:
    """The text of docs/features.md."""
    lines = [_HEAD, "| feature | unit | window | meaning |", "|---|---|---|---|"]
    for feature in FEATURES:
        window = feature.window if feature.window != NO_WINDOW else "-"
        lines.append(f"| `{feature.name}` | {feature.unit} | {window} | {feature.meaning} |")
    notes = [
        f"**`{feature.name}`**: {' '.join(rest.split())}"
        for feature in FEATURES
        if (rest := inspect.cleandoc(feature.compute.__doc__ or "").partition("\n")[2].strip())
    ]
    return "\n".join([*lines, "", *notes, ""])


if __name__ == "__main__":
    PAGE.write_text(page())
