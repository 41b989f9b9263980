"""`wsi-ncmi view`: a local page on slides and on what was found on them. It writes nothing."""
