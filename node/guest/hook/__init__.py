"""What a job loads inside its sandbox without knowing it: the snapshot hook. Standard library alone, Python 3.9 on."""
