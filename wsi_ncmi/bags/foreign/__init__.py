"""Bags that other tools wrote: whose they are, how they are read, and how they are packed."""
