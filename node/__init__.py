"""The live driver: one file per thing of the world that it touches."""
