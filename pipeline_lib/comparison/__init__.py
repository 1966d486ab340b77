"""Two runs side by side: what differs, and what of it is beyond chance."""
