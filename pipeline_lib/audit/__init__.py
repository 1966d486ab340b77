"""Where a model comes from, whether its records agree, and whether it can be made again."""
