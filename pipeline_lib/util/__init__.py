"""Small helpers that are independent of fine-tuning."""
