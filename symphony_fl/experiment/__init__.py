"""The paper's section 6, from real runs to one page (`symphony experiment paper`). In reading order:

paradigms.py             what is compared: recipes by name, on the same model, tasks and samples
runner.py                paradigms x seeds through real `flwr run`; what is done is not run again
rows.py, timing.py       a finished run as figures
statistics.py            means over seeds with their intervals, paired differences
columns.py, tables.py    the tables
figures.py, heatmaps.py  the plots
machine.py               what the experiment ran on
report.py                the page; template.html: its contents
frontier.py              `symphony frontier`: accuracy against bytes over many settings of the exchange
"""
