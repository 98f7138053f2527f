"""Which processes belong to a task, from /proc and one inherited mark.

A task's processes may leave their session (setsid), their parents (a double fork) and their environment
(env -i). What they do not leave:

- *The warden*, which is the subreaper (prctl(2), PR_SET_CHILD_SUBREAPER) of all of them: an orphan becomes the
  warden's own child, so that no process can get out of the tree below it.
- *The mark*: before a task is started the warden sets its own soft limit RLIMIT_RTTIME (processor time of
  *real-time* threads between two waits, in microseconds) to a number that no other task has, some hundred years
  or more, which limits nothing. Limits are inherited through fork and exec. The mark tells whose an orphan is, and
  finds a task's processes even after the warden itself has died.
"""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

MARK_MIN = 2**52
"""Microseconds: 142 years."""
MARKS = 2**62 - MARK_MIN
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_PR_SET_CHILD_SUBREAPER = 36
_KERNEL_KNOWS_CHILDREN = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists()
"""CONFIG_PROC_CHILDREN, which distributions set; else every process is asked for its parent."""


def become_subreaper() -> None:
    """Orphans below this process become its children from now on. OSError if the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def new_mark() -> int:
    """A number for one task; 62 bits of chance, so that no two on a machine are the same."""
    return MARK_MIN + int.from_bytes(os.urandom(8), "big") % MARKS


def wear(mark: int) -> None:
    """What this process starts from now on bears the mark. Where the hard limit forbids it (nobody sets it), nothing
    is marked, and the environment is looked at instead.
    """
    hard = resource.getrlimit(resource.RLIMIT_RTTIME)[1]
    if hard == resource.RLIM_INFINITY or hard >= mark:
        resource.setrlimit(resource.RLIMIT_RTTIME, (mark, hard))


def mark_of(pid: int) -> int | None:
    """The mark that a process bears; None if it is gone or another user's."""
    try:
        return resource.prlimit(pid, resource.RLIMIT_RTTIME)[0]
    except OSError:
        return None


def task_of(pid: int) -> str | None:
    """The task that a process names in its environment."""
    data = _read(f"/proc/{pid}/environ")
    for entry in data.split(b"\0"):
        if entry.startswith(b"PRIORITY_TASK_ID="):
            return entry.partition(b"=")[2].decode("ascii", "replace")
    return None


def children(pid: int) -> list[int]:
    """Of all its threads; none if it is gone."""
    if not _KERNEL_KNOWS_CHILDREN:
        return [one for one in _all() if (fields := _fields(one)) and int(fields[1]) == pid]
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 (called for every process, many times)
    except OSError:
        return []
    found = []
    for thread in threads:
        found += [int(child) for child in _read(f"/proc/{pid}/task/{thread}/children").split()]
    return found


def below(roots: list[int]) -> set[int]:
    """These and all below them. One that forks just now may be missed: whoever kills looks again."""
    found: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children(pid)
    return found


def bearing(marks: set[int]) -> dict[int, set[int]]:
    """mark -> the processes on this machine that bear it and live; looks at all of them (2 us each)."""
    found: dict[int, set[int]] = {}
    for pid in _all():
        if (mark := mark_of(pid)) in marks and alive(pid):
            found.setdefault(mark or 0, set()).add(pid)
    return found


def alive(pid: int) -> bool:
    """Whether it is there and not a zombie."""
    fields = _fields(pid)
    return bool(fields) and fields[0] not in (b"Z", b"X")


def resident_kib(pid: int) -> int:
    """Memory that it has in RAM, with what it shares; 0 if it is gone."""
    fields = _fields(pid)
    return int(fields[21]) * _PAGE_KIB if fields else 0


def proportional_kib(pid: int) -> int:
    """Memory in RAM, what is shared divided among the sharers: dear (the kernel walks the pages)."""
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1])
    return 0


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _fields(pid: int) -> list[bytes]:
    """Of /proc/PID/stat from the state on: the name before it may hold anything, but no later ')'."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)
