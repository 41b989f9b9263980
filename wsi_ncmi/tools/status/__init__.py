"""Command `status`: what a pipeline has done, is doing and has left, from its files alone."""
