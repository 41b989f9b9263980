"""Adversarial attacks on images: gradient ascent of a loss within a ball, through everything that
comes between a pixel and a prediction."""
