"""What is known of a data set's images, found out once: labels, sizes, hashes, what is corrupt."""
