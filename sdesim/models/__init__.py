"""Frozen descriptions of what is simulated: SDEs and PDEs."""
