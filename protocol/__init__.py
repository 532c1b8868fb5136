"""What peers say and when they may say it. Pure: no socket, clock, disk or dice."""
