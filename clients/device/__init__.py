"""Flower's programs on a device, which runs the code installed on it and no other.

supernode.py         Flower's SuperNode without app bundles; run_admission.py: which runs it takes part in
warm_executor.py     runs the installed ClientApp, one forked child per message
"""
