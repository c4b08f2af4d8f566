"""Acceptance: what a person was promised, tried on real processes."""
