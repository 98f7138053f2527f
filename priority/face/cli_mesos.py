"""`priority mesos ...`: for operators, where tasks run on a Mesos cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from priority.errors import Invalid
from priority.face import shell
from priority.face.shell import Json, OnlyJson

mesos = shell.group("The Mesos cluster that tasks run on (setting mesos_master).")

MasterOption = Annotated[
    str | None, typer.Option("--mesos-master", help="The masters, if not those of the settings.", metavar="URL")
]
NodeArgument = Annotated[str, typer.Argument(help="The node, its host or the agent's id.", metavar="NODE")]


@contextmanager
def _cluster(master: str | None) -> Iterator[Any]:
    from priority.service.mesos import mesos_cluster

    found = mesos_cluster(shell.settings(mesos_master=master))
    try:
        yield found
    finally:
        found.close()


@mesos.command("agents")
def agents(master: MasterOption = None, json: Json = False) -> None:
    """List the cluster's agents: capacity, what is ours, what others hold, what is offered to anybody."""
    with _cluster(master) as cluster:
        views = cluster.agents()
    if json:
        return shell.write_json([view.plain() for view in views])
    from priority.face import show
    from priority.resources import show as amounts

    rows = [
        (
            view.node,
            "up" if view.facts.active else "not active",
            *(amounts(one) for one in (view.facts.whole, view.ours, view.others, view.facts.offered)),
        )
        for view in views
    ]
    return show.out(show.table(("NODE", "STATE", "CAPACITY", "OURS", "OTHERS'", "OFFERED"), rows))


@mesos.command("status")
def status(master: MasterOption = None, json: OnlyJson = False) -> None:
    """Print what the scheduler's driver has counted: events, offers held and declined, launches, their round trip."""
    del json
    with _cluster(master) as cluster:
        shell.write_json(cluster.standing())


@mesos.command("drain")
def drain(
    node: NodeArgument,
    grace: Annotated[str, typer.Option(help="Tasks may take so long to end.")] = "30s",
    master: MasterOption = None,
    json: Json = False,
) -> None:
    """Have Mesos end all tasks on an agent, of every framework, and offer it to nobody. Ours begin anew elsewhere."""
    from priority.job import duration_s

    try:
        grace_s = duration_s(grace)
    except ValueError as error:
        raise Invalid("--grace", str(error)) from None
    with _cluster(master) as cluster:
        cluster.drain(node, grace_s)
    _done(node, "draining", json, f"Mesos drains {node}; take it back with: priority mesos reactivate {node}")


@mesos.command("reactivate")
def reactivate(node: NodeArgument, master: MasterOption = None, json: Json = False) -> None:
    """After a drain: let the agent take part again."""
    with _cluster(master) as cluster:
        cluster.reactivate(node)
    _done(node, "active", json, f"{node} takes part again")


@mesos.command("gone")
def gone(node: NodeArgument, master: MasterOption = None, json: Json = False) -> None:
    """Say that an agent will never come back. Only then its tasks are held dead and begin elsewhere."""
    with _cluster(master) as cluster:
        cluster.gone(node)
    _done(node, "gone", json, f"Mesos holds {node} gone for ever")


def _done(node: str, state: str, json: bool, said: str) -> None:
    if json:
        return shell.write_json({"node": node, "state": state})
    return shell.write(said)


@mesos.command("unreserve")
def unreserve(
    node: Annotated[
        str | None, typer.Argument(help="The node, its host or the agent's id; without one: all.", metavar="NODE")
    ] = None,
    master: MasterOption = None,
    json: Json = False,
) -> None:
    """Give back what Mesos keeps for our role and no task holds: for when no scheduler of ours comes back."""
    with _cluster(master) as cluster:
        count = cluster.unreserve(node)
    return shell.write_json({"agents": count}) if json else shell.write(f"given back on {count} agents")


@mesos.command("weight")
def weight(
    value: Annotated[float | None, typer.Argument(help="The new one.", metavar="WEIGHT")] = None,
    master: MasterOption = None,
    json: Json = False,
) -> None:
    """Print the weight of our role in Mesos, or set it."""
    if value is not None and not value > 0:
        raise Invalid("WEIGHT", "must be more than 0")
    with _cluster(master) as cluster:
        found = cluster.weight(value)
    return shell.write_json({"weight": found}) if json else shell.write(f"{found:g}")


@mesos.command("quota")
def quota(
    limit: Annotated[
        list[str] | None, typer.Option(help="At most so much, in Mesos' units, such as cpus=100.", metavar="NAME=N")
    ] = None,
    guarantee: Annotated[
        list[str] | None, typer.Option(help="At least so much, if it is there.", metavar="NAME=N")
    ] = None,
    master: MasterOption = None,
    json: OnlyJson = False,
) -> None:
    """Print the quota of our role in Mesos, or set it (all of it: what is not named is not limited)."""
    del json
    limits, guarantees = _amounts(limit, "--limit"), _amounts(guarantee, "--guarantee")
    with _cluster(master) as cluster:
        shell.write_json(cluster.quota(limits, guarantees))


def _amounts(given: list[str] | None, option: str) -> dict[str, float] | None:
    if given is None:
        return None
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name or not 0 <= found[name] < 1e12:
            raise Invalid(option, f"must be NAME=N, not {one!r}")
    return found
