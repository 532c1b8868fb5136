"""The sandboxes of this host, for tunnels into them."""

from __future__ import annotations

from tests.node.executors.conftest import bench_of, causes, images, runtimes, skip_without_its_tier

__all__ = ["bench_of", "causes", "images", "runtimes", "skip_without_its_tier"]
