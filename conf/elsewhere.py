"""The embedded default with everything that it writes in a folder of its own."""

from pathlib import Path

_PATHS = {
    "LANDING__PATH": "landing",
    "LANDING__LEDGER": "ingest.db",
    "WAREHOUSE__PATH": "warehouse",
    "WAREHOUSE__CHECKPOINTS": "checkpoints",
    "REGISTRY__CACHE": "model",
    "REGISTRY__ARTIFACTS": "mlartifacts",
    "LABEL__INBOX": "verdicts",
    "LABEL__WORKLISTS": "reviews",
    "PROMOTE__REPORTS": "reports",
    "ALERT__JOURNAL": "alert.db",
    "MONITOR__FOLDER": "monitor",
    "MAINTAIN__ARCHIVE": "archive",
}


def environment_in(folder: Path) -> dict[str, str]:
    """Every path of ``conf/local.toml``, moved into ``folder``, as environment variables."""
    moved = {f"FRAUD_{key}": str(folder / name) for key, name in _PATHS.items()}
    return moved | {"FRAUD_REGISTRY__TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
