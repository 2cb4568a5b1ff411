"""Attacks that are really run: what an adversary gets out of an update, of a share, of a released model."""
