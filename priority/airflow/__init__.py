"""Apache Airflow 3.3: our provider. A client of the API like any other; nothing else of the service is imported here,
and nothing of the service imports this: `priority` works without Airflow (extra `airflow`).

    from priority.airflow.operator import PriorityJobOperator

    PriorityJobOperator(task_id="simulate", role="reco", tier="prod", command="./simulate", instances=100)
"""
