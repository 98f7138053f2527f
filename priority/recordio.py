"""RecordIO, the framing of Mesos' event streams: the length in decimal digits, a newline, so many bytes; again.

Source: Mesos documentation, "RecordIO response format". Bounded, since a peer may be broken or hostile.
"""

from __future__ import annotations

from collections.abc import Iterator

RECORD_LIMIT = 64 * 2**20
"""No record is longer: an event with the offers of ten thousand agents has about 20 MiB."""

_DIGITS = 10


class Records:
    """Takes bytes as they come and gives whole records. ValueError: this is not such a stream, or a record is too long;
    then nothing more can be read from it.
    """

    def __init__(self, limit: int = RECORD_LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._need: int | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Every record that is whole now."""
        self._buffer += data
        while True:
            if self._need is None:
                self._need = self._length()
            if self._need is None or len(self._buffer) < self._need:
                return
            record = bytes(self._buffer[: self._need])
            del self._buffer[: self._need]
            self._need = None
            yield record

    @property
    def inside(self) -> bool:
        """Whether a record has begun that is not whole: the stream must not end here."""
        return self._need is not None or bool(self._buffer)

    def _length(self) -> int | None:
        end = self._buffer.find(b"\n", 0, _DIGITS + 1)
        if end < 0:
            if len(self._buffer) > _DIGITS:
                raise ValueError("a record's length is not a number")
            return None
        digits = bytes(self._buffer[:end])
        if not digits.isdigit():
            raise ValueError("a record's length is not a number")
        del self._buffer[: end + 1]
        length = int(digits)
        if length > self._limit:
            raise ValueError(f"a record of {length} bytes; at most {self._limit} are taken")
        return length
