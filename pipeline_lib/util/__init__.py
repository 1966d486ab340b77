"""Small helpers that know nothing of fine-tuning."""
