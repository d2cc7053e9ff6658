"""From a checked recipe to its parts; the only place that joins configuration and components.

components.py        short name -> component
checks.py            refuses, before a run starts, what does not fit together or would do nothing
learners.py          policy, memory, sampler, learner, shared reward of an agent
asynchrony.py        `async_gossip`: how far rounds reach; centralized.py: one trainer and its workers
generalization.py    tasks that no agent trains on
"""
