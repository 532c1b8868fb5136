"""Evidence from trusted hardware: quotes of CPUs and GPUs, read strictly, and what they are allowed to change."""
