"""Execute the notebooks in place: ``python -m notebooks.execute [--out FOLDER]``.

They keep their output, so that they can be read without running. What differs from run to run, or
from machine to machine, is left out: times of execution, versions of Python, numbers of cells.
"""

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from traitlets.config import Config

from conf.settings import stop

FOLDER = Path(__file__).parent
TIMEOUT_SECONDS = 600
_QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # tqdm would like to draw its bars with widgets, which a notebook that is read has no use for.
    "PYTHONWARNINGS": "ignore:IProgress not found",
}
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebooks() -> list[Path]:
    """The notebooks, by name."""
    return sorted(FOLDER.glob("*.ipynb"))


def executed(path: Path) -> NotebookNode:
    """The notebook in ``path``, executed from top to bottom in a kernel of its own, normalised.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised; the message has its code and error.
    """
    notebook = nbformat.read(path, as_version=4)
    # Sockets in a folder of the user's own: what goes over ports, others on the machine can hear.
    with TemporaryDirectory() as folder:
        sockets = {"transport": "ipc", "ip": f"{folder}/kernel"}
        client = NotebookClient(
            notebook,
            config=Config({"KernelManager": sockets}),
            kernel_name="python3",
            timeout=TIMEOUT_SECONDS,
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,
        )
        client.execute(env=os.environ | _QUIET)
    return normalised(notebook)


def normalised(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what an execution leaves beside its output: cells are numbered from 1,
    metadata are the same everywhere.
    """
    notebook.metadata = nbformat.from_dict(_METADATA)
    codes = (cell for cell in notebook.cells if cell.cell_type == "code")
    for number, cell in enumerate(codes, 1):
        cell.metadata, cell.execution_count = NotebookNode(), number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    return notebook


def main() -> int:
    """Parse arguments, execute one notebook after the other."""
    parser = argparse.ArgumentParser(description="Execute the notebooks, and keep their output.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder (default: in place)")
    arguments = parser.parse_args()
    for path in notebooks():
        try:
            notebook = executed(path)
        except CellExecutionError as error:
            print(error, file=sys.stderr)
            stop(f"{path.name} failed: a cell raised {error.ename}")
        target = arguments.out / path.name
        draft = target.with_name(f".{target.name}")
        nbformat.write(notebook, draft)
        draft.replace(target)
        print(f"{target}: {target.stat().st_size / 1000:,.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
