"""A task's folder: its working directory, home, temporary files and output.

Output files are opened to append and are never renamed or cut: when one is longer than its limit, a hole is
punched into its beginning (fallocate(2)). The newest bytes stay, the disk space comes back, and an offset in the
file counts every byte that was ever written, for writers and readers alike.
"""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path

from priority.backend.messages import Order

STREAMS = ("stdout", "stderr")
_BLOCK = 4096
_KEEP_SIZE_PUNCH_HOLE = 3
_libc = ctypes.CDLL(None, use_errno=True)

BASE_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
"""All that a task has of its node's environment."""


def prepare(folder: Path) -> tuple[int, int]:
    """Make it; the descriptors of its stdout and stderr. OSError if it cannot be made (or was already)."""
    folder.mkdir(0o700)
    opened: list[int] = []
    try:
        for stream in STREAMS:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            opened.append(os.open(folder / stream, flags, 0o600))
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    return opened[0], opened[1]


def environment(folder: Path, order: Order) -> dict[str, str]:
    """Base, then the job's own, then what no job can change."""
    place = str(folder)
    return {
        **BASE_ENV,
        "HOME": place,
        "TMPDIR": place,
        **order.env,
        "PRIORITY_JOB": order.job,
        "PRIORITY_TASK_ID": order.task,
        "PRIORITY_INSTANCE": str(order.instance),
        "PRIORITY_ATTEMPT": str(order.attempt),
        "PRIORITY_SANDBOX": place,
    }


def disk_bytes(folder: Path) -> int:
    """What all in it takes on disk. Links are not followed; what vanishes meanwhile does not count."""
    total = 0
    todo = [str(folder)]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    total += found.st_blocks * 512
                    if stat.S_ISDIR(found.st_mode):
                        todo.append(entry.path)
        except OSError:
            continue
    return total


def trim(folder: Path, limit: int) -> int:
    """Cut the beginnings of outputs that take more than `limit`; bytes on disk of the larger one as it was found."""
    largest = 0
    for stream in STREAMS:
        path = f"{folder}/{stream}"
        try:
            found = os.lstat(path)
        except OSError:
            continue
        taken = found.st_blocks * 512
        largest = max(largest, taken)
        if taken > limit and stat.S_ISREG(found.st_mode):
            _punch(path, limit)
    return largest


def _punch(path: str, limit: int) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        # A quarter more than needed, so that a steady writer is not cut at every look.
        end = (os.fstat(fd).st_size - limit * 3 // 4) // _BLOCK * _BLOCK
        if end > 0 and _libc.fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(end)) != 0:
            # A filesystem without holes: better no old output than a full disk.
            os.ftruncate(fd, 0)
    except OSError:
        pass
    finally:
        os.close(fd)


def read(folder: Path, stream: str, offset: int, limit: int) -> tuple[int, bytes, int]:
    """(where the data begins, data, how long the output is) from `offset` on; negative: that many before the end. What
    has been cut is skipped. FileNotFoundError if there is no such output.
    """
    path = folder / stream
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(f"{path} is not a plain file")
        size = found.st_size
        begin = max(0, size + offset) if offset < 0 else min(offset, size)
        try:
            begin = os.lseek(fd, begin, os.SEEK_DATA) if begin < size else begin
        except OSError:
            begin = size
        return begin, os.pread(fd, limit, begin), size
    finally:
        os.close(fd)
