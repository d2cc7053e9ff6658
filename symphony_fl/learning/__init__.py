"""How an agent improves its adapter. In reading order:

skills/          what can be asked, and how an answer is checked (no torch)
executors/       answers that must be run to be known: models' SQL queries and Python functions, confined (no torch)
tasks.py         held-out tasks and training tasks, disjoint by construction (no torch)
curriculum.py    training tasks by what the agent can do so far; replay.py: some of them again (no torch)
memory.py        what was tried and how it went, in SQLite; episodes.py, memory_schema.py, retrieval.py: its parts
affinity.py      who can do what: capability vectors, affinity, diversity
model.py         the base model of this process; adapters.py: the trainable part as one flat vector
tiny.py          the embedded model; smollm2.py: a real one from a package; quantization.py: 4 bit
sampling.py      completions and greedy accuracy
grpo.py          the local learner; grpo_loss.py: its mathematics; trl_grpo.py: TRL's trainer behind the same face
policy_gradient.py   the step that learners share: sample, and one clipped update of the adapter that sampled
selfplay.py      the agent's own model writes the tasks it is trained on; tally.py: what it wrote, counted
bootstrap.py     how a model that never wrote a task learns the form of one
sharing.py       which of them neighbours are shown, and what is taken of theirs (no torch)
reward.py        the shared reward: what all agents earned lately, as this one heard it (no torch)
"""
