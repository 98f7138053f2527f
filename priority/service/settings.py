"""Every setting there is: from the environment (`PRIORITY_...`) and one file (`priority.yaml`, or the one that
`PRIORITY_CONFIG` names). The environment goes before the file. `priority config` prints this page.
"""

from __future__ import annotations

import json
import math
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from priority import policy, resources, unique
from priority.document import shown
from priority.errors import Invalid, Malformed
from priority.job import Limits
from priority.resources import parse_amount, show_amount
from priority.tier import DEFAULT_TIERS

_LEAST = min(DEFAULT_TIERS.values(), key=lambda tier: tier.rank).name


def default_state() -> Path:
    """The state folder, if none is named."""
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "priority"


NOT_SETTINGS = {"job", "task_id", "instance", "attempt", "tick", "sandbox", "config", "debug"}
"""After `PRIORITY_`: what tasks are told, and what is read elsewhere."""


def config_file() -> str:
    """The file that may say settings. `Invalid` if it was named and is not there: what it says would be lost."""
    named = os.environ.get("PRIORITY_CONFIG")
    if not named:
        return "priority.yaml"
    path = Path(named).expanduser()
    if path.is_dir() or not path.exists():
        problem = "is a folder" if path.is_dir() else "there is no such file"
        raise Invalid("PRIORITY_CONFIG", f"{named}: {problem}; name the file of settings, or unset it")
    return named


class _File(YamlConfigSettingsSource):
    """The file, in which each setting is there once."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        try:
            found = unique.load(file_path.read_text(encoding="utf-8"))
        except Invalid as error:
            raise Malformed(f"{file_path}: {error.message}") from None
        except UnicodeDecodeError as error:
            raise Malformed(f"{file_path}: is not text in UTF-8: {error.reason} at byte {error.start}") from None
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise Malformed(
                f"{file_path}: must be settings with their values, such as `port: 8330`, not {shown(found)}"
            )
        return {str(name): value for name, value in found.items()}  # of any kind, so that each can be named


def _by_tier(value: Any, info: ValidationInfo) -> Any:
    """Of each tier a value, from a mapping or a text such as `devel=60,opportunistic=10`."""
    name = info.field_name or ""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise PydanticCustomError(
                "priority", "{problem}", {"path": "", "problem": f"is not JSON: {error}"}
            ) from None
    if isinstance(value, str):
        pairs = [pair.partition("=") for pair in value.replace(",", " ").split()]
        value = {tier: _number(number) for tier, _, number in pairs}
    try:
        policy.read({name: value}, DEFAULT_TIERS)
    except Invalid as error:
        path = error.field.removeprefix(f"policy.{name}")
        raise PydanticCustomError("priority", "{problem}", {"path": path, "problem": error.problem}) from None
    return value


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


ByTier = Annotated[dict[str, int | float], NoDecode, BeforeValidator(_by_tier)]


def _policy(name: str) -> Any:
    return Field(default_factory=dict, description=f"{policy.POLICY[name][1]}; by tier: devel=...")


class Settings(BaseSettings):
    """One object, read once at the start of a process."""

    model_config = SettingsConfigDict(env_prefix="PRIORITY_", extra="ignore", frozen=True, allow_inf_nan=False)

    # where things are
    state: Path = Field(
        default_factory=default_state, description="Folder of the embedded default: database, socket, token, sandboxes"
    )
    database: str = Field("", description="SQLite or PostgreSQL URL; empty: sqlite in the state folder")
    redis: str = Field("", description="Redis or Valkey URL; empty: the embedded server's socket in the state folder")
    host: str = Field("127.0.0.1", description="Address that the API listens on")
    port: int = Field(8330, ge=0, le=65535, description="Port that the API listens on; 0: any free one")
    url: str = Field(
        "", description="Of the API, for the CLI and clients; empty: the one that runs on the state folder"
    )
    token: str = Field("", description="Of the user, for the CLI and clients; not set: the admin's in the state folder")

    # the cluster of `priority up`
    agents: int = Field(4, ge=0, le=1000, description="How many local agents `priority up` starts")
    agent_cpus: float = Field(4, gt=0, description="cpus of each of them")
    agent_mem: str = Field(
        "8GiB",
        description="Memory of each of them. If it is not said: at least what jobs that name none take of all its cpus",
    )
    agent_disk: str = Field("32GiB", description="Disk of each of them")

    # what runs tasks
    backend: Literal["local", "mesos"] = Field(
        "local", description="local: the agents of this service; mesos: those of a Mesos cluster"
    )
    mesos_master: str = Field(
        "", description="Masters of the Mesos cluster: http://HOST:5050, several with commas, or zk://HOST:2181/mesos"
    )
    mesos_role: str = Field("priority", min_length=1, description="Role of our framework in the Mesos cluster")
    mesos_user: str = Field("", description="User that tasks run as on agents; empty: who runs the scheduler")
    mesos_principal: str = Field("", description="Who we are to the Mesos master (HTTP basic authentication)")
    mesos_secret: str = Field("", description="Its password")
    mesos_failover_s: float = Field(
        604_800.0, ge=0, description="Seconds without any scheduler after which Mesos ends all tasks of ours"
    )
    mesos_reserve: bool = Field(
        True, description="Whether room of ours is reserved at the Mesos master, so that no other framework takes it"
    )
    mesos_room_s: float = Field(30.0, gt=0, description="Seconds that a task waits for Mesos to offer its room")
    mesos_hold_s: float = Field(300.0, ge=0, description="Seconds that a Mesos offer of no use is held")

    # time
    heartbeat_s: float = Field(1.0, gt=0, description="Seconds between an agent's signs of life")
    silent_s: float = Field(5.0, gt=0, description="Seconds without one until no new task is placed there")
    lease_s: float = Field(60.0, gt=0, description="Seconds without one until an agent ends its own tasks")
    lease_margin_s: float = Field(
        10.0, ge=0, description="Seconds more until its tasks are held dead and begin elsewhere"
    )
    leader_lease_s: float = Field(10.0, gt=0, description="Seconds without renewal until another scheduler leads")
    sweep_s: float = Field(5.0, gt=0, description="Seconds between looks at the whole truth, whatever was announced")
    resend_s: float = Field(5.0, gt=0, description="Seconds until a launch or stop that is not seen done is sent again")
    notice_limit_s: float = Field(300.0, ge=0, description="No job's preemption notice or kill grace is longer")

    cron_on_time_s: float = Field(
        60.0, gt=0, description="Seconds after its time until which a firing of a cron job is not late"
    )

    # limits
    instances_limit: int = Field(100_000, ge=1, description="Instances of one job")
    mem_default_mib: int = Field(
        128,
        ge=0,
        le=1_048_576,
        description="MiB of memory for each cpu of a job that names no mem, at least 32 an instance; "
        "0: it holds none, and nothing limits what it takes",
    )
    command_limit: int = Field(131_072, ge=1, description="Bytes of a command")
    env_limit: int = Field(131_072, ge=1, description="Bytes of a job's environment")
    body_limit: int = Field(4 * 2**20, ge=1024, description="Bytes of a request's body")
    bulk_limit: int = Field(1000, ge=1, description="Jobs in one bulk submission")
    page_limit: int = Field(1000, ge=1000, description="Rows in one page of an answer, at most: more are refused")
    log_limit: int = Field(64 * 2**20, ge=65_536, description="Bytes kept of each of a task's stdout and stderr")
    ended_keep_s: float = Field(
        7 * 86_400.0, ge=0, description="Seconds that ended tasks' sandboxes are kept on their node"
    )

    ticks_keep_s: float = Field(
        90 * 86_400.0,
        ge=0,
        description="Seconds that ticks of cron jobs are kept, and their runs once ended; 0: for ever. "
        "The last tick of each, and runs that a preemption was about, stay",
    )
    jobs_keep_s: float = Field(
        90 * 86_400.0,
        ge=0,
        description="Seconds that ended jobs are kept, and with them the idempotency keys that they were submitted "
        "with; 0: for ever. Those that a preemption was about stay",
    )
    preemptions_keep_s: float = Field(
        90 * 86_400.0,
        ge=0,
        description="Seconds that rows of the ledger of preemptions are kept, and as long at least the jobs that they "
        "name; never less than an hour, which budgets look back on; 0: for ever",
    )
    events_keep_s: float = Field(
        90 * 86_400.0, ge=0, description="Seconds that events are kept, those of active jobs longer; 0: for ever"
    )

    certify: Literal["always", "sampled", "off"] = Field(
        "always", description="Which plans are checked before they are carried out: all, one in ten, or none"
    )
    record_mib: int = Field(
        0, ge=0, le=1_000_000, description="MiB of scheduling rounds kept for `priority replay`; 0: none is recorded"
    )

    # policy beyond the law, by tier: see `priority plan --help`
    min_run_s: ByTier = _policy("min_run_s")
    young_s: ByTier = _policy("young_s")
    preempted_per_hour: ByTier = _policy("preempted_per_hour")
    gone_at_once: ByTier = _policy("gone_at_once")
    own_gone_at_once: ByTier = _policy("own_gone_at_once")
    destroys_per_hour: ByTier = _policy("destroys_per_hour")
    loses_per_hour: ByTier = _policy("loses_per_hour")
    holds_after_s: ByTier = _policy("holds_after_s")
    holds_at_once: ByTier = _policy("holds_at_once")
    backoff_s: ByTier = _policy("backoff_s")

    @field_validator("state", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():  # as a path it would be the folder one happens to be in
            raise ValueError("must not be empty: name a folder, or leave it out")
        return value

    @field_validator("state")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("redis")
    @classmethod
    def _a_redis(cls, value: str) -> str:
        problem = (
            "must be a URL: redis://HOST:PORT, rediss://HOST:PORT or unix:///FOLDER/SOCKET"  # it may hold a password
        )
        try:
            parts = urlsplit(value)
            known = parts.scheme in ("redis", "rediss", "unix") and (parts.port is None or parts.port > 0)
        except ValueError:
            known = False
        if value and not known:
            raise ValueError(problem)
        return value

    @field_validator("agent_mem", "agent_disk")
    @classmethod
    def _an_amount(cls, value: str, info: ValidationInfo) -> str:
        try:
            resources.parse_amount(str(info.field_name).removeprefix("agent_"), value, "")
        except Invalid as error:
            raise ValueError(error.problem) from None
        return value

    @property
    def database_url(self) -> str:
        """The database, the default filled in."""
        return self.database or f"sqlite:///{self.state / 'priority.db'}"

    def memory_of(self, cpus: float) -> str:
        """Of an agent of so many cpus that is not told its own, such as `8GiB`. Nobody has measured the default, so it
        is no reason for tasks to wait that name no mem.
        """
        if "agent_mem" in self.model_fields_set:
            return self.agent_mem
        least = math.ceil(cpus * self.mem_default_mib)
        return show_amount("mem", max(parse_amount("mem", self.agent_mem, "agent_mem"), least))

    @property
    def policy(self) -> dict[str, Any]:
        """The settings of policy that are set, as a snapshot has them."""
        return {name: dict(value) for name in policy.POLICY if (value := getattr(self, name))}

    @property
    def job_limits(self) -> Limits:
        """How large a job may be."""
        return Limits(
            instances=self.instances_limit,
            mesos=self.backend == "mesos",
            command_bytes=self.command_limit,
            env_bytes=self.env_limit,
            at_once=frozenset(self.own_gone_at_once),
            mem_per_cpu=self.mem_default_mib,
            # It alone may go on revocable room, which on many agents is of cpus without memory.
            mem_none={_LEAST} if self.backend == "mesos" else (),
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What was given by hand, then the environment, then the file."""
        del dotenv_settings, file_secret_settings  # pydantic hands over all there are; these are not read
        return init_settings, env_settings, _File(settings_cls, yaml_file=config_file())


def unknown() -> list[str]:
    """A line for each name in the environment and the file that is no setting: a misspelt one would do nothing."""
    file = config_file()
    source = _File(Settings, yaml_file=file)
    given = [(name, name.lower().removeprefix("priority_")) for name in os.environ if name.upper()[:9] == "PRIORITY_"]
    lines = [
        f"{written} is not a setting{_closest(name, 'PRIORITY_{}')}"
        for written, name in sorted(given)
        if name not in NOT_SETTINGS and not name.startswith(("test_", "sim_")) and name not in Settings.model_fields
    ]
    names = [str(name) for name in source.yaml_data]
    return lines + [
        f"{file}: {name} is not a setting{_closest(name)}" for name in names if name not in Settings.model_fields
    ]


def _closest(name: str, form: str = "{}") -> str:
    found = get_close_matches(name.lower(), Settings.model_fields, n=1, cutoff=0.5)
    if not found:
        return " (`priority config` lists them all)"
    return f"; did you mean {form.format(found[0].upper() if form != '{}' else found[0])}?"
