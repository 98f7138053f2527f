"""Commands that run parts of the service, and those that need none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from priority.errors import Invalid, PriorityError
from priority.face import shell
from priority.face.shell import Json, OnlyJson
from priority.policy import POLICY

db = shell.group("The database.")
run = typer.Typer()
"""Commands without a noun; `cli` takes them over."""

StateOption = Annotated[Path | None, typer.Option("--state", help="The state folder.", metavar="FOLDER")]
HostOption = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on; 0: any.", show_default="8330")]


@run.command("up")
def up(
    *,
    state: StateOption = None,
    host: HostOption = None,
    port: PortOption = None,
    agents: Annotated[int | None, typer.Option(min=0, help="Local agents.", show_default="4")] = None,
    cpus: Annotated[float | None, typer.Option(help="cpus of each agent.", show_default="4")] = None,
    mem: Annotated[
        str | None, typer.Option(help="Memory of each agent.", show_default="8GiB, or more for many cpus")
    ] = None,
    disk: Annotated[str | None, typer.Option(help="Disk of each agent.", show_default="32GiB")] = None,
    backend: Annotated[
        str | None, typer.Option(help="What runs tasks: local agents, or mesos.", show_default="local")
    ] = None,
    mesos_master: Annotated[
        str | None, typer.Option(help="http://HOST:5050, several with commas, or zk://HOST:2181/mesos.", metavar="URL")
    ] = None,
) -> None:
    """Run everything on this machine, until Ctrl-C. Started again on the same folder it goes on where it was.

    Tasks that run when it stops go on for a while (setting lease_s): started again in time, it takes them over.
    """
    settings = shell.settings(
        state=state, host=host, port=port, agents=agents, agent_cpus=cpus, agent_mem=mem, agent_disk=disk,
        backend=backend, mesos_master=mesos_master,
    )  # fmt: skip
    _check_amounts(settings)
    _check_backend(settings, named=mesos_master is not None)
    from priority.service.up import Api
    from priority.service.up import up as supervise

    def say(line: str) -> None:
        shell.write(line)
        sys.stdout.flush()

    say(f"priority up, state folder {settings.state}")
    status = supervise(settings, Api(_listen, _serve, _warm), say, lambda: say(_first_words(settings)))
    if status:
        raise typer.Exit(status)


def _check_backend(settings: Any, *, named: bool = False) -> None:
    """The parts would fail one by one, and be started again for ever. `named`: the command line names a master."""
    if named and settings.backend != "mesos":
        raise Invalid("--mesos-master", "is for a Mesos cluster: add --backend mesos")
    if settings.backend == "mesos":
        from priority.backend.mesos_line import Masters

        Masters(settings.mesos_master)


def _check_amounts(settings: Any) -> None:
    from priority import resources

    given = {"agent_cpus": ("cpus", settings.agent_cpus), "agent_mem": ("mem", settings.agent_mem)}
    for field, (name, amount) in {**given, "agent_disk": ("disk", settings.agent_disk)}.items():
        resources.parse_amount(name, amount, field)


def _listen(settings: Any) -> Any:
    from priority.face.listen import bind

    return bind(settings)


def _serve(settings: Any, listener: Any, ready: Any) -> int:
    from priority.face.api import serve

    return serve(settings, listener, ready)


def _warm() -> None:
    import uvicorn.lifespan.on
    import uvicorn.loops.uvloop
    import uvicorn.protocols.http.httptools_impl  # noqa: F401

    import priority.face.api  # noqa: F401


def _first_words(settings: Any) -> str:
    """What to try; with the folder, unless the CLI would look there anyway."""
    from priority.service.settings import default_state

    where = "" if settings.state == default_state() else f"--state {settings.state} "
    stay_s = settings.mesos_failover_s if settings.backend == "mesos" else settings.lease_s
    return f"""ready; in another terminal:
  priority {where}roles apply config/roles.yaml
  priority {where}submit --role ci --name hello --wait -- echo hello
  priority {where}logs ci/devel/hello
or in a browser, at the address of the api; the admin's token is in {settings.state / "admin.token"}
Ctrl-C stops it; tasks that run then go on for {stay_s:g} s, for the next `priority up` to take over."""


@run.command("api")
def api(state: StateOption = None, host: HostOption = None, port: PortOption = None) -> None:
    """Run the API alone. The database must be there: `priority db upgrade`."""
    settings = shell.settings(state=state, host=host, port=port)
    from priority.face.api import serve
    from priority.service.up import first_token, hide_password

    file = first_token(settings, only_if_none=True)
    if file is not None:
        shell.write(f"the admin's token is in {file}")

    def ready(url: str) -> None:
        shell.write(f"api {url}, database {hide_password(settings.database_url)}; Ctrl-C stops it, what runs goes on")
        sys.stdout.flush()

    raise typer.Exit(serve(settings, ready=ready))


@run.command("scheduler")
def scheduler(state: StateOption = None) -> None:
    """Run a scheduler alone. Of several, one leads and the others wait for it to go."""
    settings = shell.settings(state=state)
    from priority.service.build import redis_url, run_scheduler
    from priority.service.up import hide_password

    database, redis = hide_password(settings.database_url), hide_password(redis_url(settings))
    shell.write(f"scheduler of {database}, redis {redis}; leads, or waits while another does")
    shell.write("Ctrl-C stops it; what runs goes on")
    sys.stdout.flush()
    raise typer.Exit(run_scheduler(settings))


@run.command("agent")
def agent(
    *,
    name: Annotated[str, typer.Option(help="Of the node; no other may have it.")],
    cpus: Annotated[float | None, typer.Option(help="Cores that it has.", show_default="4")] = None,
    mem: Annotated[
        str | None, typer.Option(help="Memory, such as 16GiB.", show_default="8GiB, or more for many cpus")
    ] = None,
    disk: Annotated[str | None, typer.Option(help="Disk.", show_default="32GiB")] = None,
    resource: Annotated[list[str] | None, typer.Option(help="Any other, such as gpus=2.", metavar="NAME=N")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="For constraints, such as rack=r1.", metavar="NAME=VALUE")
    ] = None,
    state: StateOption = None,
) -> None:
    """Make this machine a node. It needs only the Redis of the service (setting redis)."""
    from priority.document import NAME_PATTERN

    _check_name(name, NAME_PATTERN)
    more: dict[str, float] = {}
    for key, value in _pairs(resource, "--resource").items():
        try:
            more[key] = float(value) if key == "gpus" else int(value)
        except ValueError:
            raise Invalid("--resource", f"{key} must be a number, not {value!r}") from None
    attributes = _pairs(attribute, "--attribute")
    settings = shell.settings(state=state)
    from priority.service.build import redis_url
    from priority.service.up import hide_password, outlive, run_agent

    def ready(capacity: str) -> None:
        shell.write(f"node {name}: {capacity}; redis {hide_password(redis_url(settings))}, folder {settings.state}")
        shell.write(f"Ctrl-C stops it; {outlive(settings)}")
        sys.stdout.flush()

    raise typer.Exit(
        run_agent(settings, name, cpus=cpus, mem=mem, disk=disk, more=more, attributes=attributes, ready=ready)
    )


def _check_name(name: str, pattern: str) -> None:
    import re

    if re.fullmatch(pattern, name) is None:
        raise Invalid("--name", "must be letters, digits, '_', '.', '-', at most 63, and begin with a letter or digit")


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    found = {}
    for one in given or []:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise Invalid(option, f"must be NAME=VALUE, not {one!r}")
        found[name] = value
    return found


@db.command("upgrade")
def upgrade(state: StateOption = None, json: Json = False) -> None:
    """Bring the database to the newest version, and make the admin's token. Safe to run twice, and by two at once."""
    settings = shell.settings(state=state)
    from priority.service.up import first_token
    from priority.service.up import upgrade as bring

    bring(settings)
    file = first_token(settings)
    if json:
        return shell.write_json({"upgraded": True, "token_file": str(file)})
    return shell.write(f"the database is at the newest version; the admin's token is in {file}")


def _with_policy(command: Callable[..., Any]) -> Callable[..., Any]:
    """Its help ends with every setting of policy."""
    lines = [f"{name}: {what}." for name, (_, what) in POLICY.items()]
    command.__doc__ = "\n\n    ".join([(command.__doc__ or "").rstrip(), *lines])
    return command


@run.command("plan")
@_with_policy
def plan(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Snapshots in JSON; - for standard input.", metavar="SNAPSHOT")
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Print a snapshot to begin with.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of a snapshot, and of the answer in $defs/Plan.")
    ] = False,
    json: OnlyJson = False,
) -> None:
    """Decide one scheduling round from a snapshot: one plan a line. Needs no service.

    priority plan --example > snapshot.json; priority plan snapshot.json

    The settings that a snapshot may have under `policy`, each a value by tier, such as {"min_run_s": {"devel": 60}};
    a tier that is not named is as without the setting:
    """
    del json
    if example or schema:
        return _about_plans(example)
    if not files:
        raise Invalid("SNAPSHOT", "name a snapshot in JSON; `priority plan --example` prints one")
    from priority.plan import answer

    failed = False
    for path in files:
        try:
            line = answer(shell.read_text(path))
        except PriorityError as error:
            message = error.message if error.message.startswith(f"{path}: ") else f"{path}: {error.message}"
            shell.warn(" ".join(message.split("\n")))
            failed = True
            continue
        shell.write(line)
    if failed:
        raise typer.Exit(2)
    return None


def _about_plans(example: bool) -> None:
    import json

    from priority.face import plan_schema

    shell.write(json.dumps(plan_schema.EXAMPLE, indent=2) if example else json.dumps(plan_schema.document(), indent=2))


@run.command("config")
def config(json: Json = False) -> None:
    """Print every setting: what it is, its value now, and the variable that sets it."""
    settings = shell.settings()
    fields = type(settings).model_fields
    rows = [
        {
            "name": name,
            "variable": f"PRIORITY_{name.upper()}",
            "value": _masked(name, getattr(settings, name)),
            "description": field.description or "",
        }
        for name, field in fields.items()
    ]
    if json:
        return shell.write_json(rows)
    from priority.face import show

    show.prose(
        "Each may be set by its variable, or by its name in priority.yaml (or the file PRIORITY_CONFIG names).\n"
    )
    return show.out(
        show.table(("SETTING", "VALUE", "WHAT"), [(row["variable"], row["value"], row["description"]) for row in rows])
    )


def _masked(name: str, value: Any) -> Any:
    if name in ("token", "mesos_secret") and value:
        return "(set)"
    if name in ("database", "redis", "mesos_master") and "@" in str(value):
        return str(value).split("://", 1)[0] + "://...@" + str(value).rsplit("@", 1)[1]
    if isinstance(value, dict):
        return ",".join(f"{key}={one}" for key, one in value.items())
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


@run.command("health")
def health(json: Json = False) -> None:
    """Say whether the service works, part by part. Status 7 if it does not answer or is degraded."""
    with shell.client(token_needed=False) as client:
        found = client.health()
    if json:
        shell.write_json(found)
    else:
        from priority.face import show_admin

        show_admin.health(found)
    if found["status"] != "ok":
        raise typer.Exit(7)


@run.command("openapi")
def openapi(json: OnlyJson = False) -> None:
    """Print the OpenAPI document of the running service."""
    del json
    with shell.client() as client:
        shell.write_json(client.openapi())


@run.command("demo")
def demo(
    roles: Annotated[Path, typer.Option(help="The roles file.", metavar="FILE")] = Path("config/roles.yaml"),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder with database and witness lines.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Write the timeline as SVG here.", metavar="FILE")] = None,
    airflow: Annotated[bool, typer.Option(help="Run a DAG as well, where Apache Airflow is installed.")] = True,
) -> None:
    """Show it: a cluster of its own, devel and prod work, preemption and return, seen by the tasks' own lines."""
    from priority.face import show
    from priority.face.demo import run as tell

    raise typer.Exit(tell(show.console(), roles, keep=keep, picture=picture, airflow=airflow))
