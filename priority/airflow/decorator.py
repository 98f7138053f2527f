"""`@task.priority`: a Python function that runs as a job.

    @task.priority(role="reco", tier="prod", job_resources={"cpus": 2})
    def fit(run: int) -> dict:
        import fitting          # what it needs it imports itself: it runs on a node
        return fitting.fit(run)

Its source is sent, its arguments go as JSON in an environment variable, and what it returns comes back as the last line
of its output, as JSON too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory
from airflow.sdk.exceptions import AirflowException

from priority.airflow.operator import PriorityJobOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

INPUT = "AIRFLOW_TASK_INPUT"

_SCRIPT = """\
import json, os
{source}
given = json.loads(os.environ["{variable}"])
returned = {name}(*given["args"], **given["kwargs"])
print("\\n" + json.dumps(returned), flush=True)
"""


class _PriorityDecoratedOperator(DecoratedOperator, PriorityJobOperator):
    """The operator behind the decorator. `python` is the interpreter on the nodes."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *PriorityJobOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **PriorityJobOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.priority"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        python: str = "python3",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("result", "json")
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)
        self.python = python

    def execute(self, context: Context) -> Any:
        """The command is known only now."""
        try:
            given = orjson.dumps({"args": list(self.op_args), "kwargs": dict(self.op_kwargs)}).decode()
        except TypeError as error:
            raise AirflowException(f"the arguments of {self.python_callable.__name__} must be JSON: {error}") from None
        source = textwrap.dedent(self.get_python_source())
        name = self.python_callable.__name__
        self.command = [self.python, "-c", _SCRIPT.format(source=source, variable=INPUT, name=name)]
        self.env = {**(self.env or {}), INPUT: given}
        return PriorityJobOperator.execute(self, context)


def priority_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """What `@task.priority` is: all arguments of the operator but `command`, and `python`."""
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_PriorityDecoratedOperator, **kwargs
    )
