"""Every Makeflow in `makeflows/` beside this file (and in MAKEFLOW_FOLDER, if that is set) as a DAG of its own."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.configuration import AIRFLOW_HOME
from airflow.sdk import DAG

from priority.airflow.makeflow import dag_of

ENDINGS = {".makeflow", ".mf", ".jx", ".json"}
FOLDERS = [Path(__file__).resolve().parent / "makeflows"]
if "MAKEFLOW_FOLDER" in os.environ:
    FOLDERS.append(Path(os.environ["MAKEFLOW_FOLDER"]))

for path in sorted(path for folder in FOLDERS for path in folder.glob("*") if path.suffix in ENDINGS):
    made: DAG = dag_of(path, Path(AIRFLOW_HOME) / "makeflow" / path.stem)
    globals()[made.dag_id] = made
