"""What runs with the rights or inside the namespaces of a sandbox: plain scripts on the standard library alone."""
