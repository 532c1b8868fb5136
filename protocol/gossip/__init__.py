"""Statements to everyone: a GossipSub v1.1 router with scores, as sans-IO machines. Pure."""
