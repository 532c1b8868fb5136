"""The commands, one noun per module: `register` describes them, the rest runs them."""
