"""A trained model to give away, with a card that says where it comes from."""
