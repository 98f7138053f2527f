"""What others wrote, shown so that it cannot pass for anything else: a character that does not print (a line end, a
terminal's escape, one that turns the direction of writing) stands there by its escape.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """On one line: for errors, logs, a cell of a table."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def printable_lines(text: str) -> str:
    """The same, but line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(one if one in "\n\t" else printable(one) for one in text)
