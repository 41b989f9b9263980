"""Aggregators: from a bag of instance features to one embedding. One file each."""
