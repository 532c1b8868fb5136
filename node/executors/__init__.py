"""Where jobs run: one module per sandbox. What each protects: docs/sandboxes.md, specs/13-execution.md."""
