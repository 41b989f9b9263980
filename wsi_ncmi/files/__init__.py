"""Files that are whole or not there: atomic writers, tables, HDF5, and what is current."""
