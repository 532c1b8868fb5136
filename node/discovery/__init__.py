"""Who else is there: the directory, the local network, rendezvous, and how far away each one is."""
