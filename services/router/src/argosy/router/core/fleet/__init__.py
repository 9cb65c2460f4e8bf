"""What the router knows of instances, their load and their caches."""
