"""The rules that every run is held to: one checker per rule, each an observer that raises `Violation`."""
