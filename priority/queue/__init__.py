"""The doorbell: Redis streams, the embedded Valkey server, and a twin in memory."""

from __future__ import annotations

from priority.queue.streams import RedisQueue as RedisQueue
