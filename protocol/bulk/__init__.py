"""Bulk bytes: tickets, the handshake, encrypted records, which chunk from whom, fair shares. Pure."""
