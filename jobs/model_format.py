"""How a version's files are stored: what may be loaded from a registry that others write to."""

from collections.abc import Collection
from pathlib import Path

from mlflow.models import Model

from conf.sections import RegistrySettings
from jobs.model import ModelRefused

_PICKLED = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
"""Endings of files that Python unpickles, which runs whatever their maker put into them."""


def require_format(files: Path, settings: RegistrySettings) -> None:
    """Check a downloaded version before any of it is loaded.

    Args:
        files: a folder with an MLmodel file in it or below it.

    Raises:
        ModelRefused: it is stored as pickle and ``allow_pickle`` is not set, or with skops and asks
            for types that are not among ``trusted_types``.
    """
    if not settings.allow_pickle:
        _require_no_pickle(files)
    for description in files.rglob("MLmodel"):
        _require_trusted(description, settings.trusted_types)


def _require_no_pickle(files: Path) -> None:
    pickled = sorted(
        str(path.relative_to(files)) for path in files.rglob("*") if path.suffix in _PICKLED
    )
    if pickled:
        raise ModelRefused(
            f"it is stored as pickle ({', '.join(pickled)}), which can run anything when it is "
            "loaded: log it with skops (`skops_trusted_types=`) or from code, or set "
            "registry.allow_pickle"
        )


def _require_trusted(description: Path, trusted: Collection[str]) -> None:
    try:
        flavors = Model.load(str(description)).flavors
    except Exception as error:
        raise ModelRefused(f"its MLmodel file cannot be read: {error!r}") from error
    asked = flavors.get("sklearn", {}).get("skops_trusted_types") or ()
    unknown = sorted(set(asked) - set(trusted))
    if unknown:
        raise ModelRefused(
            f"it asks for the types {', '.join(unknown)}, which registry.trusted_types does not "
            f"have; there is {', '.join(sorted(trusted))}"
        )
