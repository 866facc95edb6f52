"""How a version's files are stored: what may be loaded from a registry that others write to."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.models import Model

from conf.sections import RegistrySettings
from jobs.model import ModelRefused

_PICKLED = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
"""Endings of files that Python unpickles, which runs whatever their maker put into them."""

_PICKLE_BEGINS = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))

_WITHOUT_PICKLE = {
    "mlflow.sklearn": ("sklearn", "serialization_format", "skops"),
    "mlflow.lightgbm": ("lightgbm", "model_class", "lightgbm.basic.Booster"),
    "mlflow.xgboost": ("xgboost", "model_class", "xgboost.core.Booster"),
}
"""Loaders that can do without pickle: each one's flavor in MLmodel, and what must stand there. That
file names what is loaded, and how: the endings of the others tell nothing.
"""


def require_format(files: Path, settings: RegistrySettings) -> None:
    """Check a downloaded version before any of it is loaded.

    Args:
        files: a folder with an MLmodel file in it or below it.

    Raises:
        ModelRefused: it is stored as pickle, or by a loader that is not known to do without, and
            ``allow_pickle`` is not set; or with skops, and asks for types that are not among
            ``trusted_types``.
    """
    flavors = {path: _flavors(path) for path in sorted(files.rglob("MLmodel"))}
    if not settings.allow_pickle:
        found = [str(path.relative_to(files)) for path in _pickled_files(files)]
        found += [
            f"{path.relative_to(files)}: loaded by {loader}"
            for path, told in flavors.items()
            for loader in _loaders_of_pickle(told)
        ]
        if found:
            raise ModelRefused(
                f"it may be stored as pickle ({', '.join(found)}), which can run anything when it "
                "is loaded: log it with skops (`skops_trusted_types=`), as a Booster of LightGBM "
                "or XGBoost, or from code, or set registry.allow_pickle"
            )
    asked = {name for told in flavors.values() for name in _skops_types(told)}
    unknown = sorted(asked - set(settings.trusted_types))
    if unknown:
        raise ModelRefused(
            f"it asks for the types {', '.join(unknown)}, which registry.trusted_types does not "
            f"have; there is {', '.join(sorted(settings.trusted_types))}"
        )


def _flavors(description: Path) -> dict[str, dict[str, Any]]:
    try:
        flavors = Model.load(str(description)).flavors
        return {str(name): dict(told) for name, told in flavors.items()}
    except Exception as error:
        raise ModelRefused(f"its MLmodel file cannot be read: {error!r}") from error


def _pickled_files(files: Path) -> Iterator[Path]:
    for path in sorted(files.rglob("*")):
        if path.is_file():
            with path.open("rb") as content:
                if path.suffix in _PICKLED or content.read(2) in _PICKLE_BEGINS:
                    yield path


def _loaders_of_pickle(flavors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The loaders of a version, but for those that are known to do without pickle."""
    loaders = {str(told["loader_module"]) for told in flavors.values() if "loader_module" in told}
    if "sklearn" in flavors:
        loaders.add("mlflow.sklearn")  # whatever else is named
    return sorted(loader for loader in loaders if not _is_without_pickle(loader, flavors))


def _is_without_pickle(loader: str, flavors: Mapping[str, Mapping[str, Any]]) -> bool:
    if loader == "mlflow.pyfunc.loaders.code_model":  # without that, it unpickles an object
        return "model_code_path" in flavors.get("python_function", {})
    flavor, key, value = _WITHOUT_PICKLE.get(loader, ("", "", ""))
    return flavors.get(flavor, {}).get(key) == value


def _skops_types(flavors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    asked = flavors.get("sklearn", {}).get("skops_trusted_types") or []
    return [str(name) for name in asked] if isinstance(asked, list) else [str(asked)]
