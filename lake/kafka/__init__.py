"""Kafka's topics, as everybody needs them."""
