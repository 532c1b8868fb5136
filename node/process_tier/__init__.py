"""Snapshots of whole processes, for programs of any language: opportunistic, advertised only where it was proved."""
