"""Results for people: plots.py, tables.py, html.py."""
