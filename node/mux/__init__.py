"""The stream multiplexer over Noise, driven by trio."""
