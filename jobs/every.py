"""Jobs that run once for a scheduler, or by ``--every TIME`` again and again."""

import argparse
import logging
import re
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_every(parser: argparse.ArgumentParser) -> None:
    """Add ``--every``; its value is in seconds, None where it was not given."""
    parser.add_argument(
        "--every",
        type=seconds_of,
        metavar="TIME",
        help="look again after 30s, 10m, 1h, until ended",
    )


def seconds_of(text: str) -> float:
    """Seconds of ``30s``, ``10m``, ``1h`` or ``1d``.

    Raises:
        argparse.ArgumentTypeError: it is none of these, or not above 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not seconds:
        raise argparse.ArgumentTypeError(f"expected a time such as 30s, 10m or 1h, found {text!r}")
    return seconds


def watch(one_look: Callable[[], object], every_seconds: float, ended: threading.Event) -> None:
    """Look until ``ended`` is set; a look that fails is logged, and the next one tries again."""
    while not ended.is_set():
        try:
            one_look()
        except Exception:
            log.exception("this look failed; the next one is in %g s", every_seconds)
        ended.wait(every_seconds)
