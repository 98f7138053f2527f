"""The verbs and the loop: what users ask for, and the scheduler that does it.

A *verb* (`jobs`, `roles`, `users`, `nodes`) is one transaction: it checks the actor's grants, asks the pure
rules, writes what they allow together with its events and audit rows, and rings the doorbell after the commit.
The *loop* (`scheduler`) turns the truth into plans and plans into acts. Both change tasks through `ledger`
alone, which walks `priority.lifecycle`. Only `build` knows which store, queue and backend there are.
"""
