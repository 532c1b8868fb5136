"""Checkpoints and volumes that outlive peers. Pure. Empty in this release: nothing here is implemented yet."""
