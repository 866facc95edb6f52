"""The notebooks: executed on small tables, and as they are committed."""

import ast
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest

from conf.settings import load_settings
from notebooks.execute import executed, normalised, notebooks
from notebooks.make_tables import make_tables
from notebooks.sample import Plan, present
from tests.conftest import PROJECT

SMALL = Plan(cards=100, history_days=50, days=28, cycle_days=60)
NAMES = ("eda", "retrain", "tables")
OURS = {"conf", "ingest", "jobs", "notebooks", "training"}
MOST_BYTES = 1_000_000
PLACES = ("/home/", str(Path.home()), "/tmp/", "/usr/", "site-packages", "Users")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def assert_tidy(notebook):
    """Something to read below every cell but imports and those that say so; no error, no warning,
    no path of a machine.
    """
    for cell in code_cells(notebook)[1:]:
        assert cell.outputs or cell.source.startswith("%%capture"), cell.source
    for output in outputs(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        texts = {kind: text for kind, text in output.get("data", {}).items() if "image" not in kind}
        assert not [place for place in PLACES if place in str(texts) + output.get("text", "")]
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))


def test_notebooks_run_from_top_to_bottom(spark, environment):
    settings = load_settings(PROJECT / "conf" / "notebooks.toml")
    now = make_tables(spark, settings, SMALL)
    assert present(settings) == now
    for path in notebooks():
        assert_tidy(executed(path))


@pytest.fixture(params=NAMES)
def path(request):
    return PROJECT / "notebooks" / f"{request.param}.ipynb"


def test_all_notebooks_are_known():
    assert [path.stem for path in notebooks()] == list(NAMES)


def test_committed_notebooks_can_be_read_without_running(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert_tidy(notebook)
    assert notebook == normalised(deepcopy(notebook))
    assert path.stat().st_size < MOST_BYTES


def test_notebooks_import_the_project_and_define_nothing(path):
    sources = [cell.source for cell in code_cells(nbformat.read(path, as_version=4))]
    code = "\n".join(source.removeprefix("%%capture\n") for source in sources)
    nodes = list(ast.walk(ast.parse(code)))
    assert not [node for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    modules = {node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    assert len(modules & OURS) >= 3


def test_plans_are_whole_weeks():
    with pytest.raises(ValueError, match="found 30 days"):
        Plan(days=30)
    assert SMALL.fraud.pattern_change == SMALL.start.replace(day=8)
