"""`tunesmith cache`: what a store holds, what stays, and room for more."""
