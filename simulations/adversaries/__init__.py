"""The attack library: one way to cheat per file. Names and who is turned: `simulations.adversaries.registry`."""
