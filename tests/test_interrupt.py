"""Ctrl-C before a program handles it; each in a process of its own."""

import subprocess
import sys

import pytest

from conf.interrupt import INTERRUPTED
from tests.conftest import PROJECT


def ended(code):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("package", ["jobs", "ingest", "training"])
def test_ctrl_c_ends_quietly_from_the_first_import_on(package):
    process = ended(f"import {package}\nraise KeyboardInterrupt")
    assert (process.returncode, process.stdout, process.stderr) == (INTERRUPTED, "", "")


def test_an_error_while_cleaning_up_after_it_is_quiet_too():
    process = ended("import jobs\ntry:\n    raise KeyboardInterrupt\nfinally:\n    1 / 0")
    assert (process.returncode, process.stderr) == (INTERRUPTED, "")


def test_other_errors_are_told_as_ever():
    process = ended("import jobs, ingest, training\n1 / 0")
    assert process.returncode == 1
    assert process.stderr.count("ZeroDivisionError") == 1
