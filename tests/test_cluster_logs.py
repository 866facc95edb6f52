"""What logs and checkpoints tell of a run on a cluster."""

import pytest

from jobs.checkpoints import batch_in_progress
from jobs.cluster_demo import seconds_of_batches
from jobs.executor_logs import Tasks, tasks_of

BEGIN = "26/11/30 21:03:56 INFO Executor: Running task 0.0 in stage 16.0 (TID {})\n"
END = "26/11/30 21:03:58 INFO Executor: Finished task 0.0 in stage 16.0 (TID {}). 7 bytes result\n"


def executor(folder, app, number, text):
    log = folder / app / str(number) / "stderr"
    log.parent.mkdir(parents=True)
    log.write_text(text)


def test_a_task_without_an_end_is_unfinished(tmp_path):
    executor(tmp_path, "app-1", 0, BEGIN.format(1) + END.format(1) + BEGIN.format(2))
    executor(tmp_path, "app-1", 3, BEGIN.format(5) + END.format(5))
    # Tasks are numbered anew in each application.
    executor(tmp_path, "app-2", 0, BEGIN.format(2) + END.format(2))
    assert tasks_of(tmp_path) == Tasks(finished=3, unfinished=1)


def test_seconds_of_batches_are_those_of_the_score_jobs_lines(tmp_path):
    log = tmp_path / "score.log"
    log.write_text(
        "2026-11-30 21:04:06 WARN TaskSetManager: batch 9: of another kind\n"
        "2026-11-30 21:04:09,481 INFO jobs.score: batch 3: 1,100 received, 88 scored by fraud v1, "
        "2 rejected, 10 seen before, 5.44 s\n"
    )
    assert seconds_of_batches(log) == {3: 5.44}


@pytest.mark.parametrize(
    ("planned", "done", "found"), [([], [], None), ([0], [], 0), ([6, 7], [6], 7), ([7], [7], None)]
)
def test_a_batch_is_in_progress_from_its_plan_to_its_commit(tmp_path, planned, done, found):
    for kind, numbers in (("offsets", planned), ("commits", done)):
        (tmp_path / kind).mkdir()
        for number in numbers:
            (tmp_path / kind / str(number)).touch()
    assert batch_in_progress(tmp_path) == found
