"""Weights of others: Google's by name, timm's, and from one kind of file to another."""
