"""Policies: what turns an observation into a prior over chunks of actions, and how it is trained."""
