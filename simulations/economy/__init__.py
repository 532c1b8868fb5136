"""What attacks on the money bring: careers of cheats, and of their honest twins, on the node's own ledger."""
