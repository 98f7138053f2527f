"""One run of a DAG by `dag.test()`: no component of Airflow is needed. For the demo.

    python -m priority.airflow.once DAG.py DAG_ID < order.json

AIRFLOW_HOME says where; its database is made. Getting ready takes some seconds of a core, so it can be started early:
it begins with the first line of stdin, {"connection": {...}, "conf": {...}}, and ends without one.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(file: Path, dag: str) -> int:
    """The exit status: 0 after a success."""
    os.environ |= {"AIRFLOW__CORE__DAGS_FOLDER": str(file.parent), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk.execution_time.supervisor import in_process_api_server
    from airflow.utils.db import initdb

    initdb()
    found = DagBag(file).dags[dag]
    _ = in_process_api_server().transport
    line = sys.stdin.readline()
    if not line:
        return 1
    order = json.loads(line)
    os.environ["AIRFLOW_CONN_PRIORITY_DEFAULT"] = json.dumps(order["connection"])
    return 0 if found.test(run_conf=order["conf"]).state == "success" else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2]))
