"""What runs tasks: local agents, or a simulation. Nothing is imported here: an agent is a small process."""

from __future__ import annotations
