"""Where jobs run: one module per sandbox, strongest first. What each protects: docs/sandboxes.md, specs/13-execution.md."""
