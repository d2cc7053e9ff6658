"""What computes and judges answers that must be run to be known. Everything that reaches these is untrusted.

    sql.py             SQL queries, and when two results are the same; sql_guard.py: what a query may use;
                       sql_worker.py: the process that runs it; sql_process.py: its parent's side, with the deadline
    python.py          calls of small pure functions, in a confined process
    python_syntax.py   the part of Python those may be written in
    python_worker.py   what runs in that process
    process.py         starts and ends those processes; python_sandbox.py: how they confine themselves
    allowance.py       seconds that several batches of programs may take together

No torch here, and this file imports nothing: the worker process loads it.
"""
