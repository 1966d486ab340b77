"""The library: every step of a fine-tuning run as a plain call. It never imports Prefect."""
