"""Results for people.

drawing.py      how plots look, and how they are saved
tables.py       tables as text, Markdown and HTML; the summary of a run, the comparison of several
pages.py        HTML pages from templates/
plots.py        the plots of one run
dashboard.py    an experiment's runs as one file
"""
