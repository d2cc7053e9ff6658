"""What a run tells MLflow, and what is read back.

tracker.py           what is told, and every metric's name; spool.py: on disk first
delivery.py          a thread empties the spool into mlflow_store.py (the only importer of mlflow); replay.py: later
runs.py              runs read back
"""
