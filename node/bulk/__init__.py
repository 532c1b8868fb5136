"""The data plane: bulk bytes beside libp2p, in workers of their own."""
