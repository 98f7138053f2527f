"""YAML whose mappings name each key once: what stands there twice would silently replace what stood there first.

The standard loader keeps the last. Keys are compared where the document is put together, before anchors and merges
(`<<`) are resolved: a key that overrides a merged one is no repetition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from priority.errors import Invalid
from priority.printable import printable


class _Loader(yaml.SafeLoader):
    """Knows the path of what it reads, so that a repetition can be named."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._path: list[str] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        part = f"[{index}]" if isinstance(index, int) else _name(index) if isinstance(index, yaml.Node) else ""
        self._path.append(part)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._path.pop()
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            first = seen.setdefault((key.tag, key.value), key)
            if first is not key:
                lines = f"first on line {first.start_mark.line + 1}, again on line {key.start_mark.line + 1}"
                raise Invalid(_joined([*self._path, _name(key)]), f"is there twice in one mapping: {lines}")
        return node


def load(text: str) -> Any:
    """The one document. As `yaml.safe_load`, and `Invalid` with the path of a key that is there twice."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def load_all(text: str) -> Iterator[Any]:
    """Each document in turn. As `yaml.safe_load_all`, and `Invalid` with the path of a key that is there twice."""
    loader = _Loader(text)
    try:
        while loader.check_node():
            yield loader.get_data()
    finally:
        loader.dispose()


def _name(node: yaml.Node) -> str:
    text = str(node.value) if isinstance(node, yaml.ScalarNode) else "?"
    return printable(text)


def _joined(parts: list[str]) -> str:
    path = ""
    for part in parts:
        path += part if part.startswith("[") or not path else f".{part}" if part else ""
    return path
