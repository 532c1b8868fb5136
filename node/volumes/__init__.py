"""Network volumes and folder trees on this machine: folders to trees and back, crates, heads, mounts."""
