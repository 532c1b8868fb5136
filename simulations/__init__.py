"""The other driver of the same machines, on virtual time. Empty in this release: nothing here is implemented yet."""
