"""Which tasks are trained on. No torch.

task_sampler.py      held-out and training tasks, disjoint by construction
curriculum.py        skill and difficulty by what the agent can do so far; replay.py: past tasks again
task_sharing.py      what neighbours are shown, and what is taken from strangers
"""
