"""How Redis is reached: connections that can be closed while they wait, and names that others must agree on."""

from __future__ import annotations
