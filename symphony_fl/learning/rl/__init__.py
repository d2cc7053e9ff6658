"""Reinforcement learning of the adapter. In reading order:

sampling.py          completions with log-probabilities; greedy accuracy
grpo.py              the local learner of eq. 7; grpo_loss.py: its mathematics; grpo_settings.py
policy_gradient.py   the step that learners share; shared_prompts.py, optimizer_state.py: its parts
rollout_learner.py   a step on rollouts that others sampled; rollouts.py: how those are checked
shared_reward.py     the windowed average of all agents' rewards, as one agent heard it
trl_grpo.py          the same learner by TRL
"""
