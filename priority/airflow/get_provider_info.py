"""What Airflow finds of us: the entry point `apache_airflow_provider`. Needs no Airflow to be imported."""

from __future__ import annotations

from typing import Any

_TEXT: dict[str, Any] = {"type": ["string", "null"]}


def get_provider_info() -> dict[str, Any]:
    """In the form of Airflow's provider_info.schema.json; the name is the distribution's, or Airflow refuses it."""
    return {
        "package-name": "priority",
        "name": "Priority",
        "description": "Jobs of a multi-tenant service in which production and development share one cluster.",
        "integrations": [{"integration-name": "Priority", "external-doc-url": "", "tags": ["service"]}],
        "hooks": _modules("hook"),
        "operators": _modules("operator"),
        "sensors": _modules("sensor"),
        "triggers": _modules("trigger"),
        "connection-types": [_CONNECTION],
        "extra-links": ["priority.airflow.operator.PriorityJobLink"],
        "task-decorators": [{"class-name": "priority.airflow.decorator.priority_task", "name": "priority"}],
        "executors": ["priority.airflow.executor.PriorityExecutor"],
        "cli": ["priority.airflow.get_provider_info.get_cli_commands"],
        "config": {"priority": {"description": "The PriorityExecutor.", "options": _OPTIONS}},
    }


def get_cli_commands() -> list[Any]:
    """None. Without this list every `airflow` command warns that the executor has to be loaded to know that."""
    return []


def _modules(name: str) -> list[dict[str, Any]]:
    return [{"integration-name": "Priority", "python-modules": [f"priority.airflow.{name}"]}]


_CONNECTION: dict[str, Any] = {
    "connection-type": "priority",
    "hook-class-name": "priority.airflow.hook.PriorityHook",
    "hook-name": "Priority",
    "ui-field-behaviour": {
        "hidden-fields": ["login", "extra"],
        "relabeling": {"schema": "Scheme", "password": "Token"},
        "placeholders": {
            "host": "127.0.0.1, or the whole URL",
            "port": "8330",
            "schema": "http",
            "password": "from `priority token create`",
        },
    },
    "conn-fields": {
        "role": {"label": "Role", "description": "Of jobs that name none", "schema": _TEXT},
        "tier": {
            "label": "Tier",
            "description": "Of jobs that name none",
            "schema": {**_TEXT, "enum": ["prod", "devel", "opportunistic"], "default": "devel"},
        },
        "page": {
            "label": "Page of a job",
            "description": "URL that the task's link leads to, with {uid} in it; empty: the service's own page",
            "schema": _TEXT,
        },
    },
}


def _option(description: str, default: str, example: str | None = None, kind: str = "string") -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example,
        "default": default,
    }


_OPTIONS: dict[str, Any] = {
    "conn_id": _option("Connection of the executor.", "priority_default"),
    "role": _option("Role of tasks whose executor_config names none; empty: the connection's.", "", "physics"),
    "tier": _option("Tier of tasks whose executor_config and queue name none; empty: the connection's.", "", "devel"),
    "cpus": _option("Cores of a task whose executor_config names no resources.", "1", kind="float"),
    "mem": _option(
        "Memory of a task whose executor_config names none: Airflow itself takes some 300 MiB. Empty: the default of "
        "the service, for each cpu.",
        "1GiB",
        "2GiB",
    ),
    "folder": _option(
        "Where a task's workload is handed over (files of mode 0600, read once); nodes must see it. "
        "Empty: `priority` in AIRFLOW_HOME.",
        "",
    ),
    "nursery": _option(
        "Whether nodes get a small opportunistic job each that has imported Airflow already: tasks begin two seconds "
        "sooner.",
        "True",
        kind="boolean",
    ),
    "python": _option("The Python of the nodes that has Airflow and the DAGs' modules; empty: the scheduler's.", ""),
}
