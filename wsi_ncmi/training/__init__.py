"""Training: one loop for bags and for images, its data, optimisers and seeds."""
