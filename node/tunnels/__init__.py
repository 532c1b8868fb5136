"""Ports of a running job, reachable through the overlay."""
