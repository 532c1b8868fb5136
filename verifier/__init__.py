"""Whether the work was true, and the validators' consensus. Pure: no socket, clock, disk or dice."""
