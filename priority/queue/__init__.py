"""The doorbell: Redis streams, the embedded Valkey server, and their twin in memory."""

from __future__ import annotations
