"""What becomes of a slide: tissue, grid, quality, stain, masks, annotations, the tile file."""
