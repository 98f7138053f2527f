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
    str | None,
    typer.Option("--mesos-master", help="Masters, if not the settings' or the scheduler's.", metavar="URL"),
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
    grace_s = _duration("--grace", grace)
    with _cluster(master) as cluster:
        cluster.drain(node, grace_s)
    _done(node, "draining", json, f"Mesos drains {node}; take it back with: priority mesos reactivate {node}")


@mesos.command("reactivate")
def reactivate(node: NodeArgument, master: MasterOption = None, json: Json = False) -> None:
    """After a drain: let the agent take part again."""
    with _cluster(master) as cluster:
        cluster.reactivate(node)
    _done(node, "active", json, f"{node} takes part again")


@mesos.command("maintenance")
def maintenance(master: MasterOption = None, json: Json = False) -> None:
    """List the machines that are to go down, or are down, and which frameworks have said that they have left."""
    with _cluster(master) as cluster:
        found = cluster.maintenance()
    if json:
        return shell.write_json([{**one, "start": _moment(one.pop("start_us"))} for one in found])
    from priority.face import show

    rows = [
        (
            one["host"],
            one["state"],
            _moment(one["start_us"]),
            "" if one["duration_s"] is None else f"{one['duration_s']:g}s",
            ", ".join(f"{name} {said}" for name, said in sorted(one["frameworks"].items())),
        )
        for one in found
    ]
    return show.out(show.table(("HOST", "STATE", "FROM", "FOR", "FRAMEWORKS"), rows, "nothing is announced"))


def _moment(at_us: int) -> str:
    from priority.face.plain import moment

    return moment(at_us)


@mesos.command("announce")
def announce(
    node: NodeArgument,
    start: Annotated[str, typer.Option("--in", help="It goes down after so long.")] = "1h",
    duration: Annotated[str | None, typer.Option("--for", help="It is down for so long.", metavar="TIME")] = None,
    master: MasterOption = None,
    json: Json = False,
) -> None:
    """Announce that a machine goes down. Tasks that would run then are not placed there, and what still runs shortly
    before gets its notice and begins anew elsewhere.
    """
    import time

    start_us = time.time_ns() // 1000 + round(_duration("--in", start) * 1e6)
    with _cluster(master) as cluster:
        cluster.announce(node, start_us, None if duration is None else _duration("--for", duration))
    _done(node, "announced", json, f"{node} goes down at {_moment(start_us)}; then: priority mesos down {node}")


@mesos.command("call-off")
def call_off(node: NodeArgument, master: MasterOption = None, json: Json = False) -> None:
    """Take back what was announced: the machine stays."""
    with _cluster(master) as cluster:
        cluster.call_off(node)
    _done(node, "called off", json, f"{node} stays")


@mesos.command("down")
def down(node: NodeArgument, master: MasterOption = None, json: Json = False) -> None:
    """Take a machine down that was announced to be: Mesos ends its agent and all that still runs there."""
    with _cluster(master) as cluster:
        cluster.down(node)
    _done(node, "down", json, f"{node} is down; when it is to come back: priority mesos up {node}")


@mesos.command("up")
def up(node: NodeArgument, master: MasterOption = None, json: Json = False) -> None:
    """After `down`: a machine may take part again, as soon as its agent is started."""
    with _cluster(master) as cluster:
        cluster.up(node)
    _done(node, "up", json, f"{node} may come back: start its agent")


def _duration(option: str, text: str) -> float:
    from priority.job import duration_s

    try:
        return duration_s(text)
    except ValueError as error:
        raise Invalid(option, str(error)) from None


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
    return shell.write_json({"agents": count}) if json else shell.write(f"given back: agents {count}")


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
