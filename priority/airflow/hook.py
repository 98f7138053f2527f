"""The connection: where the API is and whose token is used, resolved once.

`on_kill` runs in a signal handler with five seconds to live, and asking Airflow for a connection in there hangs: so
whoever may have to kill a job resolves the connection before it submits one, and keeps the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from priority.errors import PriorityError
from priority.face.client import Client

if TYPE_CHECKING:
    from airflow.sdk import Connection

RETRY_S = 120.0
"""So long a lost connection is tried again: an API that is brought back must not fail a task of hours."""

KILL_S = 3.0
"""So long a kill may take: less than the five seconds after which Airflow kills the one who asks for it."""

PORT = 8330


class Access(NamedTuple):
    """All that is needed to talk to the API, without asking Airflow again."""

    url: str
    token: str
    role: str = ""
    tier: str = ""
    page: str = ""

    def client(self, *, timeout_s: float = 60.0, retry_s: float = RETRY_S) -> Client:
        """A new one; close it."""
        return Client(self.url, self.token, timeout_s=timeout_s, retry_s=retry_s)

    def kill(self, uid: str, why: str, for_s: float = KILL_S) -> None:
        """On a connection of its own: who is interrupted by a signal may hold the lock of another."""
        with self.client(timeout_s=for_s, retry_s=for_s) as client:
            client.kill(uid, why=why)

    def page_of(self, uid: str) -> str:
        """What a person is shown of a job."""
        return self.page.replace("{uid}", uid) if self.page else f"{self.url}/jobs/{uid}"


class PriorityHook(BaseHook):
    """A connection of type `priority`. Where the default one is not defined, the API is found like the command line
    finds it: `PRIORITY_URL` and `PRIORITY_TOKEN`, or the state folder.
    """

    conn_name_attr = "priority_conn_id"
    default_conn_name = "priority_default"
    conn_type = "priority"
    hook_name = "Priority"

    def __init__(self, priority_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.priority_conn_id = priority_conn_id
        self._access: Access | None = None
        self._client: Client | None = None

    @property
    def access(self) -> Access:
        """Resolved the first time."""
        if self._access is None:
            try:
                self._access = access_of(self.get_connection(self.priority_conn_id))
            except AirflowNotFoundException:
                if self.priority_conn_id != self.default_conn_name:
                    raise
                self._access = found()
        return self._access

    async def aaccess(self) -> Access:
        """The same for who runs in an event loop."""
        if self._access is None:
            try:
                self._access = access_of(await self.aget_connection(self.priority_conn_id))
            except AirflowNotFoundException:
                if self.priority_conn_id != self.default_conn_name:
                    raise
                self._access = found()
        return self._access

    @property
    def client(self) -> Client:
        """One for as long as the hook lives."""
        if self._client is None:
            self._client = self.access.client()
        return self._client

    def get_conn(self) -> Client:
        """Airflow's name for `client`."""
        return self.client

    def test_connection(self) -> tuple[bool, str]:
        """For Airflow's form: whether the API answers, and to whom."""
        try:
            with self.access.client(timeout_s=10.0, retry_s=0.0) as client:
                me = client.me()
                version = client.health()["version"]
        except PriorityError as error:
            return False, str(error)
        grants = "cluster admin" if me["admin"] else ", ".join(sorted(me["grants"])) or "no grant in any role"
        return True, f"priority {version} answers to {me['name']} ({grants})"


def access_of(connection: Connection) -> Access:
    """`host` may be a whole URL; the token is the password."""
    extra: dict[str, Any] = connection.extra_dejson
    host = connection.host or "127.0.0.1"
    url = host if "://" in host else f"{connection.schema or 'http'}://{host}:{connection.port or PORT}"
    texts = {name: str(extra.get(name) or "") for name in ("role", "tier", "page")}
    return Access(url.rstrip("/"), connection.password or "", **texts)


def found() -> Access:
    """As the command line finds it."""
    url, token = Client.whereabouts()
    return Access(url.rstrip("/"), token)
