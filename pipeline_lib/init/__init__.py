"""`tunesmith init`: inspect data files and write a recipe for them."""
