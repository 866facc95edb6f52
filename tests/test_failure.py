"""What an operator is told of a query that failed."""

import pytest

from jobs.failure import told

FULL = """[STREAM_FAILED] Query [id = 1, runId = 2] terminated with exception: Reason: Traceback:
  File "clientserver.py", line 644, in _call_proxy
py4j.protocol.Py4JJavaError: An error occurred while calling o4413.collectToPython.
: org.apache.spark.SparkException: Job aborted due to stage failure
\tat org.apache.spark.Executor.run(Executor.java:7)
Caused by: java.io.IOException: No space left on device
\tat java.io.FileOutputStream.writeBytes(Native Method)
=== Streaming Query ===
Identifier: score"""

IN_PYTHON = """[STREAM_FAILED] Query [id = 1] terminated with exception: Traceback:
  File "write.py", line 1, in write
OSError: [Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device
=== Streaming Query ==="""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (FULL, "java.io.IOException: No space left on device"),
        (IN_PYTHON, "OSError: [Errno 28] Error writing bytes to file. Detail: [errno 28] No space"),
        ("terminated: Connection refused.\n=== Streaming Query ===", "terminated: Connection refu"),
    ],
)
def test_the_system_s_own_causes_are_one_line(text, line):
    said = told(text, "/c")
    assert said.startswith(line)
    assert said.endswith(": when that is mended, start again; nothing is lost")
    assert "\n" not in said


def test_a_state_that_does_not_fit_together_is_a_damaged_checkpoint():
    text = "Traceback:\n  File x\nKeyError: 'the state names a piece a-1/0 that it does not hold'"
    assert "the checkpoint /c cannot be read (KeyError: 'the state names" in told(text, "/c")
    assert "\n" not in told(text, "/c")


def test_a_full_disk_is_no_damaged_checkpoint():
    text = (
        "Caused by: X: [CANNOT_LOAD_STATE_STORE]\nCaused by: E.Exception: No space left on device"
    )
    assert "checkpoint" not in told(text, "/c")


@pytest.mark.parametrize(
    "sign",
    [
        "Python worker exited unexpectedly (crashed). Consider",
        "EOFException occurred while reading the port number from pyspark.daemon's stdout.",
    ],
)
def test_a_worker_that_died_is_one_line(sign):
    text = f"Traceback:\nCaused by: org.X: {sign}"
    assert told(text, "/c").startswith("a Python worker died: ")
    assert "\n" not in told(text, "/c")


def test_what_is_not_known_is_told_as_a_whole_without_the_plan():
    text = 'ValueError: no idea\n  File "a.py", line 3'
    assert told(f"{text}\n=== Streaming Query ===\nPlan", "/c") == text
