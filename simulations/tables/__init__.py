"""Measured figures that worlds are built from, each with its source and year."""
