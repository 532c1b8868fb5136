"""How others get here: port mapping, hole punching, relays, and who confirms it."""
