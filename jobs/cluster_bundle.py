"""What a cluster is given: ``python -m jobs.cluster_bundle [--with FILE] [--out var/bundle]``.

Workers have no checkout. The bundle is a folder with all that goes there, or is submitted with:

- ``fraud_detector.zip``: the project's packages, put on the path of driver and workers;
- ``spark.conf``: the properties for ``spark-submit --properties-file``, which name the archive;
- ``requirements.txt`` and ``constraints.txt``: the packages that each worker's Python must have.
"""

import argparse
import shutil
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from conf.settings import stop

PROJECT = Path(__file__).parent.parent
PACKAGES = ("conf", "ingest", "jobs", "training")
DEFAULTS, CLUSTER = "spark-defaults.conf", "spark-cluster.conf"
PINS = "constraints.txt"

OF_ONE_MACHINE = (
    "spark.master",
    "spark.driver.host",
    "spark.driver.bindAddress",
    "spark.pyspark.python",
)
"""Properties of spark-defaults.conf that a cluster, or who submits to it, decides."""

LISTS = ("spark.jars.packages", "spark.jars.excludes")
"""Properties whose values, separated by commas, add up."""


class NoCheckout(Exception):
    """The project's files are not there to be bundled; the message names what is missing."""


@dataclass(frozen=True)
class Bundle:
    """The files of a bundle, as absolute paths."""

    folder: Path

    @property
    def archive(self) -> Path:
        """The project's packages."""
        return self.folder / "fraud_detector.zip"

    @property
    def properties(self) -> Path:
        """Spark's properties."""
        return self.folder / "spark.conf"

    @property
    def requirements(self) -> Path:
        """What pip installs on a worker."""
        return self.folder / "requirements.txt"


def make_bundle(folder: Path, more: Sequence[str] = ()) -> Bundle:
    """Write the bundle into ``folder``.

    Args:
        more: names of properties files beside spark-defaults.conf, such as spark-s3.conf.

    Raises:
        NoCheckout: this code runs from such a bundle itself.
        FileNotFoundError: there is no properties file of a name.
    """
    if not (PROJECT / "pyproject.toml").is_file():
        raise NoCheckout(f"no pyproject.toml in {PROJECT}: make the bundle in the project's folder")
    bundle = Bundle(folder.absolute())
    bundle.folder.mkdir(parents=True, exist_ok=True)
    _write_archive(bundle.archive)
    properties = read_properties(PROJECT / DEFAULTS)
    for name in OF_ONE_MACHINE:
        properties.pop(name, None)
    for name in (CLUSTER, *more):
        properties = united(properties, read_properties(PROJECT / name))
    properties["spark.submit.pyFiles"] = str(bundle.archive)
    lines = [f"{name} {value}\n" for name, value in properties.items()]
    bundle.properties.write_text("".join(lines))
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    shutil.copy(PROJECT / PINS, bundle.folder / PINS)
    bundle.requirements.write_text("\n".join([f"-c {PINS}", *project["dependencies"], ""]))
    return bundle


def read_properties(path: Path) -> dict[str, str]:
    """The properties of a file: a name, white space, a value; ``#`` begins a comment."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return {pair[0]: pair[1] if len(pair) > 1 else "" for pair in pairs}


def united(properties: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """The properties of two files: those of ``LISTS`` have the values of both, each once and in
    their order; of others the later one counts.
    """
    found = dict(properties) | dict(more)
    for name in LISTS:
        values = [told[name].split(",") for told in (properties, more) if name in told]
        if values:
            found[name] = ",".join(dict.fromkeys(chain.from_iterable(values)))
    return found


def _write_archive(path: Path) -> None:
    # A worker may be reading the one that lies there.
    draft = path.with_suffix(".tmp")
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for file in sorted((PROJECT / package).rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    archive.write(file, file.relative_to(PROJECT))
    draft.replace(path)


def main() -> None:
    """Parse arguments, write the bundle, tell where it is."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.cluster_bundle", description="Write what a cluster is given."
    )
    parser.add_argument(
        "--with", dest="more", action="append", default=[], metavar="FILE",
        help="another properties file, such as spark-s3.conf; may be repeated",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("var/bundle"), help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        bundle = make_bundle(arguments.out, arguments.more)
    except (NoCheckout, OSError) as error:
        stop(str(error))
    print(bundle.archive, bundle.properties, bundle.requirements, sep="\n")


if __name__ == "__main__":
    main()
