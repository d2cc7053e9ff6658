"""What computes and judges answers that must be run to be known. Everything that reaches these is untrusted.

    sql.py             SQLite queries on a read-only database, and when two results are the same
    python.py          calls of small pure functions, in a confined process
    python_syntax.py   the part of Python those may be written in
    python_worker.py   what runs in that process; python_sandbox.py: how it confines itself

No torch here, and this file imports nothing: the worker process loads it.
"""
