"""`wsi-ncmi splits audit`: split files of any tool, read and examined."""
