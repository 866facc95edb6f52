"""What the measurements ran on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks.plan import CORES, PROJECT
from conf.settings import load_settings

_PACKAGES = (
    *("pyspark", "delta-spark", "mlflow", "scikit-learn", "numpy", "pandas", "pyarrow"),
    "deltalake",
)
_SHOWN_SETTINGS = ("spark.sql.", "spark.databricks.", "spark.driver.memory", "spark.executorEnv.")


def description() -> list[tuple[str, str]]:
    """Names and values, for a table."""
    score = load_settings(PROJECT / "conf" / "local.toml").score
    return [
        ("machine", f"{os.cpu_count()} cores of {_processor()}, {_memory_gb():.0f} GB"),
        ("system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"),
        ("versions", ", ".join(f"{name} {version(name)}" for name in _PACKAGES)),
        ("Spark", f"`local[{CORES}]`, " + ", ".join(f"`{line}`" for line in _spark_settings())),
        ("score", f"buckets {score.buckets}, trigger {score.trigger_seconds:g} s"),
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _spark_settings() -> list[str]:
    lines = (PROJECT / "spark-defaults.conf").read_text().splitlines()
    told = [" ".join(line.split()) for line in lines if line.startswith(_SHOWN_SETTINGS)]
    return [line for line in told if "extensions" not in line and "catalog" not in line]
