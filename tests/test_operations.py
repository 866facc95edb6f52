"""docs/operations.md: its schedules are valid, and its commands are ones that exist."""

import argparse
import ast
import importlib
import re
import shlex
import sys

import pytest

from tests.conftest import PROJECT
from training.promote import NO_CHALLENGER, RULE_DOES_NOT_HOLD

TEXT = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
INTERVAL_END = "{{ data_interval_end.isoformat() }}"
OURS = ("ingest.", "jobs.", "training.")


def blocks(language):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    return [block for name, block in fenced if name == language]


def crontab():
    """Lines of the table without variables and comments: the five fields, and the command."""
    lines = [line for block in blocks("crontab") for line in block.splitlines()]
    entries = [line for line in lines if line and not re.match(r"#|[A-Z]+=", line)]
    return [line.split(maxsplit=5) for line in entries]


def dag():
    (block,) = blocks("python")
    return ast.parse(block)


def dag_options(name):
    """The values of an option in all calls of the DAGs."""
    return [
        ast.literal_eval(word.value)
        for call in ast.walk(dag())
        if isinstance(call, ast.Call)
        for word in call.keywords
        if word.arg == name
    ]


def schedules():
    return [*(line[:5] for line in crontab()), *(text.split() for text in dag_options("schedule"))]


def commands():
    """Every command of ours in the page: module and arguments."""
    lines = [line for block in blocks("") for line in block.splitlines()]
    texts = [*lines, *(line[5] for line in crontab()), *dag_options("bash_command")]
    found = []
    for text in texts:
        text = text.split(">>")[0].replace(INTERVAL_END, "2026-01-04T02:30:00+00:00")
        words = shlex.split(text, comments=True)
        scripts = [word for word in words if word.startswith("jobs/")]
        if scripts:
            module = scripts[0].removesuffix(".py").replace("/", ".")
            found.append((module, *words[words.index(scripts[0]) + 1 :]))
        elif "-m" in words:
            found.append(tuple(words[words.index("-m") + 1 :]))
    return [command for command in found if command[0].startswith(OURS)]


def test_schedules_are_five_fields_within_their_bounds():
    assert len(schedules()) == 9
    for fields in schedules():
        assert len(fields) == 5
        for field, (low, high) in zip(fields, FIELDS, strict=True):
            for part in field.split(","):
                match = re.fullmatch(r"(\*|\d+(?:-\d+)?)(?:/[1-9]\d*)?", part)
                assert match, field
                assert all(low <= int(n) <= high for n in re.findall(r"\d+", match[1])), field


def test_cron_commands_hold_no_bare_percent_sign():
    """To cron it is the end of the line."""
    assert len(crontab()) == 5
    assert not [line for line in crontab() if re.search(r"(?<!\\)%", line[5])]


def test_the_dags_are_python():
    compile(dag(), "operations.md", "exec")
    assert len(set(dag_options("task_id"))) == len(dag_options("bash_command")) == 5


def test_airflow_skips_the_days_on_which_nothing_is_promoted_and_no_failure():
    assert dag_options("skip_on_exit_code") == [[RULE_DOES_NOT_HOLD, NO_CHALLENGER]]


class Parsed(Exception):
    """The command line was understood; nothing is to be run."""


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_exist_with_their_options(command, monkeypatch):
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, *args, **kwargs):
        parse(self, *args, **kwargs)
        raise Parsed

    main = importlib.import_module(command[0]).main
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", list(command))
    with pytest.raises(Parsed):
        main()


def test_every_job_of_the_table_is_among_the_commands():
    modules = {command[0] for command in commands()}
    assert modules == {
        "ingest.poll", "jobs.score", "jobs.alert", "jobs.label", "jobs.monitor", "jobs.review",
        "jobs.maintain",
        "training.train", "training.promote",
    }  # fmt: skip
