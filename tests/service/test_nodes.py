"""What an operator sees of nodes."""

from __future__ import annotations

from priority.node import NodeState

from .world import ROOT, World, node, spec


def seen(world: World) -> dict[str, tuple[str, bool]]:
    views = world.service.nodes.list(ROOT)
    return {view.record.node.name: (view.record.node.state.value, view.silent) for view in views}


def test_a_node_that_is_silent_is_told_from_one_that_is_up() -> None:
    world = World([node("n1"), node("n2")])
    world.settle()
    assert seen(world) == {"n1": ("up", False), "n2": ("up", False)}
    world.backend.cut("n1")
    world.move(10.0)
    assert seen(world) == {"n1": ("up", True), "n2": ("up", False)}
    job = world.submit(spec("web/prod/a", cpus=1, instances=4))
    world.settle()
    assert {task.node for task in world.tasks(job)} == {"n2"}, "it takes nothing new"
    world.backend.heal("n1")
    world.settle()
    assert seen(world) == {"n1": ("up", False), "n2": ("up", False)}


def test_one_that_is_down_is_not_silent_too() -> None:
    world = World([node("n1"), node("n2")])
    world.settle()
    world.backend.kill_node("n1")
    world.move(1000.0)
    assert seen(world)["n1"] == (NodeState.DOWN.value, False)


def test_who_hears_nobody_is_deaf() -> None:
    world = World([node("n1"), node("n2")])
    world.settle()
    for name in ("n1", "n2"):
        world.backend.cut(name)
    assert seen(world) == {"n1": ("up", False), "n2": ("up", False)}
