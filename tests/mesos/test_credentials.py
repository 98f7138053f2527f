"""A master that takes nobody whom it does not know (HTTP basic authentication); on a real Mesos."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster_of_mesos import MesosCluster
from real import Mesos

from priority.backend.mesos import MesosBackend
from priority.errors import Unavailable
from priority.orders import LogRequest
from priority.service.mesos import mesos_cluster
from priority.service.settings import Settings

pytestmark = [pytest.mark.mesos, pytest.mark.timeout(200)]

WHO, SECRET, WRONG = "ours", "right-secret", "wrong-secret"


class Known(MesosCluster):
    """Says who it is."""

    def __init__(self, mesos: Mesos, state: Path, secret: str) -> None:
        self._secret = secret
        super().__init__(mesos, state, silent_s=60.0, lease_s=3600.0, lease_margin_s=1.0)

    def fresh(self) -> MesosBackend:
        return MesosBackend(
            self.mesos.url, self._store, role="contract", principal=WHO, secret=self._secret, failover_s=100.0
        )


@pytest.fixture
def strict(make_mesos: Callable[..., Mesos], tmp_path: Path) -> Mesos:
    credentials = tmp_path / "credentials"
    credentials.write_text(json.dumps({"credentials": [{"principal": WHO, "secret": SECRET}]}))
    flags = {
        "authenticate_http_frameworks": "true",
        "http_framework_authenticators": "basic",
        "authenticate_http_readwrite": "true",
        "credentials": f"file://{credentials}",
    }
    made = make_mesos(resources="cpus:4;mem:1024;disk:0;ports:[]", master=flags, agent={"hostname": "n1"})
    made.auth = WHO, SECRET
    return made


def test_who_says_who_it_is_is_taken(strict: Mesos, tmp_path: Path) -> None:
    cluster = Known(strict, tmp_path, SECRET)
    settings = Settings(
        state=tmp_path, database=f"sqlite:///{tmp_path / 'priority.db'}",
        mesos_master=strict.url, mesos_role="contract", mesos_principal=WHO, mesos_secret=SECRET,
    )  # fmt: skip
    operator = mesos_cluster(settings)
    try:
        cluster.ready()
        task = cluster.launch("echo heard")
        assert cluster.ended(task).exit_code == 0
        request = LogRequest(node="n1", task=task, stream="stdout", offset=0, limit=100, wait_s=0)
        assert cluster.backend.logs(request).data == b"heard\n"
        (framework,) = strict.get("/frameworks")["frameworks"]
        assert (framework["principal"], framework["connected"]) == (WHO, True)
        assert [one.node for one in operator.agents()] == ["n1"]
        assert operator.weight(3.0) == 3.0
    finally:
        operator.close()
        cluster.close()


def test_who_does_not_is_refused_and_says_why_without_the_secret(
    strict: Mesos, tmp_path: Path, caplog: pytest.LogCaptureFixture, eventually: Callable[..., Any]
) -> None:
    cluster = Known(strict, tmp_path, WRONG)
    settings = Settings(
        state=tmp_path, database=f"sqlite:///{tmp_path / 'priority.db'}",
        mesos_master=strict.url, mesos_role="contract", mesos_principal=WHO, mesos_secret=WRONG,
    )  # fmt: skip
    operator = mesos_cluster(settings)
    try:
        eventually(lambda: caplog.text.count("401") >= 2, "a second try")
        with pytest.raises(Unavailable, match="401"):
            operator.weight(3.0)
        assert not strict.get("/frameworks")["frameworks"]
        assert WRONG not in caplog.text
    finally:
        operator.close()
        cluster.close()
