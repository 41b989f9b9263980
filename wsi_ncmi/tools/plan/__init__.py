"""`wsi-ncmi plan`: what a sheet would take, before any work."""
