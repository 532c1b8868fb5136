"""What stands between a running sandbox and the machines: snapshots out of it, snapshots into it."""
