"""What is seen of traffic and of instances."""
