"""From a slide's grid of tiles to its bag of features."""
