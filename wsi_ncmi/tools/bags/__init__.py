"""`wsi-ncmi bags …`: looking at bags, checking and importing them."""
