"""How an agent improves its adapter. In reading order:

skills/      what can be asked, and how an answer is checked (no torch)
executors/   answers that must be run to be known: SQL queries and Python functions, confined (no torch)
tasks/       which tasks are trained on (no torch)
memory/      what was tried and how it went, in SQLite (no torch)
model/       the base model and its adapter
rl/          GRPO and what it needs
selfplay/    the agent's own model writes its tasks
report.py    what a local learner says about a round
"""
