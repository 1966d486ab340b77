"""Many recipes, and one comparison of what came of them."""
