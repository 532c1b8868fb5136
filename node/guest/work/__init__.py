"""What a unit program imports as `shoal_work`: work in units, run and replayed. NumPy and Python 3.9 are enough."""
