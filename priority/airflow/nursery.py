"""Tasks that begin warm: a process on a node that has imported Airflow already, and forks for each task.

    python -m priority.airflow.nursery FILE BREED

Importing Airflow costs a second or two of a core, more than many a task. A nursery is itself a job, one for each node
(`[priority] nursery`, see `nurseries`); where there is none, tasks begin cold. It ends by itself some minutes after
the executor that wanted it. A breed is what a nursery and its tasks must have in common; tasks of another find it not.

What it forks belongs to the task's job and not to the nursery's: the process puts on the mark of that job (the soft
limit RLIMIT_RTTIME, see priority/backend/proc.py) before its parent dies, so that the node's warden adopts it, counts
what it uses, and ends it with the rest of its job. The job's own process waits for it meanwhile. Both talk over an
abstract socket that names the warden, and look at each other's user first.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from priority.airflow import run

_FDS = 4
"""stdin, stdout and stderr of the job, and what is to be run, as JSON in a file without a name."""


_MOST = (
    "airflow.dag_processing.dagbag", "airflow.dag_processing.bundles.local", "airflow.sdk.execution_time.task_runner",
    "airflow.providers.standard.operators.bash", "airflow.providers.standard.operators.python",
    "airflow.providers.standard.decorators.python", "priority.airflow.operator", "priority.airflow.plugin",
    "setproctitle", "encodings.idna",
)  # fmt: skip
"""What most tasks import once they run."""

ALONE_S = 300.0
"""So long after its executor was last heard of a nursery ends."""

LOOK_S = 20.0


def address(warden: int, breed: str) -> bytes:
    """Of the nursery below that warden, in the abstract namespace."""
    return f"\0priority-nursery-{os.getuid()}-{warden}-{breed}".encode()


def kept(folder: Path, breed: str) -> Path:
    """What the executor touches as long as it wants nurseries of that breed."""
    return folder / f"nursery-{breed}.kept"


def same_user(connection: socket.socket) -> bool:
    """Whether the other side is ours."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return bool(uid == os.getuid())


def ask(path: Path, breed: str) -> int | None:
    """Have the task run; its exit status when it has ended. None: there is no nursery here."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(address(os.getppid(), breed))
        except OSError:
            return None
        if not same_user(connection):
            return None
        # The warden tells every process of a job; what is to be done then, the task's own does.
        for told in (signal.SIGTERM, run.NOTICE):
            signal.signal(told, signal.SIG_IGN)
        mark, _ = resource.getrlimit(resource.RLIMIT_RTTIME)
        order = {"path": str(path), "env": dict(os.environ), "cwd": str(Path.cwd()), "mark": mark}
        number = os.memfd_create("order")
        os.pwrite(number, json.dumps(order).encode(), 0)
        socket.send_fds(connection, [b"."], [0, 1, 2, number])
        os.close(number)
        status = connection.recv(1)
    return status[0] if status else 1


def serve(listener: socket.socket, wanted: Callable[[], bool]) -> None:
    """As long as it is wanted."""
    listener.settimeout(LOOK_S)
    while wanted():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        with connection:
            if not same_user(connection):
                continue
            _, fds, _, _ = socket.recv_fds(connection, 1, _FDS)
            if len(fds) == _FDS:
                order = json.loads(os.pread(fds[3], os.fstat(fds[3]).st_size, 0))
                pid = os.fork()
                if pid == 0:
                    listener.close()
                    _bear(connection, order, fds)
                os.waitpid(pid, 0)
            for fd in fds:
                os.close(fd)


def until_alone(file: Path, now: Callable[[], float] = time.monotonic) -> Callable[[], bool]:
    """Whether the file was touched within `ALONE_S`, by this machine's clock alone."""
    seen: tuple[int, float] = (-1, now())

    def wanted() -> bool:
        nonlocal seen
        try:
            touched = file.stat().st_mtime_ns
        except OSError:
            touched = seen[0]
        if touched != seen[0]:
            seen = (touched, now())
        return now() - seen[1] < ALONE_S

    return wanted


def _bear(connection: socket.socket, order: dict[str, object], fds: list[int]) -> None:
    """Between the nursery and the task, for a moment: marked, and gone."""
    status = 1
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
        resource.setrlimit(resource.RLIMIT_RTTIME, (int(str(order["mark"])), hard))
        os.setsid()
        if os.fork():
            os._exit(0)
        for goal, fd in enumerate(fds[:3]):
            os.dup2(fd, goal)
        for fd in fds:
            os.close(fd)
        os.chdir(str(order["cwd"]))
        environment = order["env"]
        assert isinstance(environment, dict)
        os.environ.clear()
        os.environ.update(environment)
        status = run.cold(Path(str(order["path"])))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(bytes([status & 0xFF]))
        os._exit(0)


def warm() -> None:
    """What tasks would do each for itself: with it a short one costs half. A client reads all certificates."""
    run.load(*_MOST)
    from airflow.sdk.api.client import Client

    Client(base_url="http://127.0.0.1", token="").close()


def main(path: Path, breed: str) -> int:
    """The exit status: 0 also if there is a nursery below this warden already."""
    handed = run.take(path)
    if handed is None:
        return run.TAKEN
    os.environ.update(handed["env"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(address(os.getppid(), breed))
        except OSError:
            return 0
        warm()
        listener.listen(64)
        serve(listener, until_alone(kept(path.parent, breed)))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
