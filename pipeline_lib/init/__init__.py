"""`tunesmith init`: look into data files and write a recipe for them."""
