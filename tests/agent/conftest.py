"""Fixtures of the performer's tests."""

from perform_kit import rig, rigs

__all__ = ["rig", "rigs"]
