"""What peers say below the market: streams over one connection, relays, reachability, who is where. Pure."""
