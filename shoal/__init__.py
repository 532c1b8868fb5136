"""The front door of Shoal, a peer-to-peer network in which idle GPUs do useful, checked, paid work."""
