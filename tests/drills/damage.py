"""A disk that is full, rights that are gone, a checkpoint that is damaged, a second copy of a job."""

import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from jobs.demo import Part, last_line, part
from jobs.process_tree import kill_tree
from tests.drills.system import JOBS, DrillFailed, DrillSkipped, System, is_ready

TOLD_TO_MOVE = "move the checkpoint away"
BATCH_DONE = "jobs.score: batch "


def disk_filled(system: System) -> str:
    """Fill the disk that the warehouse is on, where that is one of its own; make room again."""
    ballast = Path(system.settings.warehouse.path).parent / "ballast"
    if not ballast.parent.is_mount():
        raise DrillSkipped("no right to mount a small disk")
    system.pause(system.rng.uniform(1, 4))
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(2**16))
    lives = system.lives["score"]
    system.wait_until(
        lambda: "No space left" in _logs(system, "score", lives), "score says that the disk is full"
    )
    system.pause(system.rng.uniform(4, 12))
    ballast.unlink()
    system.wait_ready("score")
    return f"disk of the warehouse full; score started {system.lives['score'] - lives} times"


def rights_revoked(system: System) -> str:
    """Take the right to write into `transactions` away; give it back."""
    system.pause(system.rng.uniform(1, 4))
    table = Path(system.settings.warehouse.table("transactions"))
    folders = [table, table / "_delta_log"]
    lives = system.lives["score"]
    for folder in folders:
        folder.chmod(0o555)
    system.wait_until(
        lambda: "ermission denied" in _logs(system, "score", lives), "score says what it lacks"
    )
    system.pause(system.rng.uniform(4, 12))
    for folder in folders:
        folder.chmod(0o755)
    system.wait_ready("score")
    return f"no right to write; score started {system.lives['score'] - lives} times"


def checkpoint_damaged(system: System) -> str:
    """Damage the newest file of each part of the score job's checkpoint, in a way that is drawn; do
    what the job says.
    """
    drawn = {part: system.rng.choice(list(DAMAGES)) for part in PARTS}
    moved = sum(_damage(system, damage, part) for part, damage in drawn.items())
    system.wait_ready("score")
    told = ", ".join(f"{part} {damage}" for part, damage in drawn.items())
    return f"newest file of {told}; checkpoint moved away {moved} times"


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


PARTS = ("offsets", "commits", "sources", "state")
DAMAGES = {"cut": _cut, "flipped in a byte": _flip}
"""As a cache of a disk that was lost, and as a disk that fails, leave a file."""


def _damage(system: System, damage: str, part: str) -> bool:
    """Damage a file in mid-stream; whether the job said that the checkpoint is to be moved away."""
    system.wait_ready("score")
    system.pause(system.rng.uniform(2, 5))
    checkpoint = Path(system.settings.warehouse.checkpoint("score"))

    def files() -> list[Path]:
        # Spark may run for minutes until it reads what it notes of the operator.
        found = (checkpoint / part).rglob("[!.]*")
        return [path for path in found if path.is_file() and "_metadata" not in path.parts]

    system.wait_until(lambda: bool(files()), f"the checkpoint has {part}")
    system.kill("score")
    newest = max(files(), key=lambda path: path.stat().st_mtime_ns)
    DAMAGES[damage](newest)
    lives = system.lives["score"] + 1
    system.start("score")
    system.wait_until(
        lambda: any(sign in _logs(system, "score", lives) for sign in (TOLD_TO_MOVE, BATCH_DONE)),
        f"score goes on with {part} {damage} ({newest.name}), or says what to do",
    )
    is_told = TOLD_TO_MOVE in _logs(system, "score", lives)
    if is_told:
        system.end("score")
        checkpoint.rename(checkpoint.with_name(f"damaged-{lives}"))
        system.start("score")
    return is_told


def started_twice(system: System, names: Sequence[str] = JOBS) -> str:
    """Start a second copy of each job, then two at the same moment: one says so and ends."""
    _start_second(system, names)
    _start_pairs(system, names)
    return f"a second copy of {', '.join(names)} refused; of two started at once, one"


def _start_second(system: System, names: Sequence[str]) -> None:
    for name in names:
        system.wait_ready(name)
    second = {
        name: subprocess.Popen(
            system.command(name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for name in names
    }
    for name, process in second.items():
        try:
            told, _ = process.communicate(timeout=180)
        except subprocess.TimeoutExpired as error:
            kill_tree(process.pid)
            raise DrillFailed(f"a second {name} runs on") from error
        _require_refused(name, process.returncode, told[-300:])


def _start_pairs(system: System, names: Sequence[str]) -> None:
    for name in names:
        system.end(name)
    logs = system.folder / "logs"
    with ExitStack() as stack:
        pairs = {
            name: [
                stack.enter_context(part(f"copy-{copy}-of-{name}", system.command(name), {}, logs))
                for copy in (1, 2)
            ]
            for name in names
        }
        for name, pair in pairs.items():
            _one_stays(system, name, pair)
    system.start_all(names)


def _one_stays(system: System, name: str, pair: Sequence[Part]) -> None:
    def ended() -> list[Part]:
        return [one for one in pair if one.process.poll() is not None]

    system.wait_until(lambda: bool(ended()), f"one of two copies of {name} ends")
    (loser,) = ended()
    (other,) = (one for one in pair if one is not loser)
    _require_refused(name, loser.process.returncode, last_line(loser.log))
    system.wait_until(lambda: is_ready(other, name), f"one of two copies of {name} runs")


def _require_refused(name: str, status: int | None, told: str) -> None:
    if not status or "another" not in told.lower():
        raise DrillFailed(f"a second {name} ends with {status}: {told}")


def _logs(system: System, name: str, lives: int) -> str:
    """What a part said in its life number ``lives`` and those after."""
    files = sorted((system.folder / "logs").glob(f"{name}-*.log"))
    return "".join(file.read_text(errors="replace") for file in files[lives - 1 :])
