"""HTTP in front of a node. It speaks to its node over the node's control socket only."""
