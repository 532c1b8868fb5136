"""Proven work on a node: unit programs laid out, their traces taken, units replayed and compared, states kept."""
