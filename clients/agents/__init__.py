"""Agents: what a participant of a run is and does, whatever brings it its messages. In reading order:

agent.py             one agent: merge what neighbours sent, improve, share (base_agent.py: what all agents have)
exchange.py          its side of the exchange; known_keys.py: whose key belongs to which agent
edge_encryption.py   mail that only its recipient can read (`exchange.encryption=edge`)
task_sharing.py      tasks shown to neighbours and taken from them; executor_credit.py: what those may cost
evaluation.py        held-out accuracy; trace.py: the agent's own updates, kept for comparison
trainer.py           `centralized`: agent 0, which learns; worker.py: the others, which sample for it;
                     rollout_agent.py: what both have
"""
