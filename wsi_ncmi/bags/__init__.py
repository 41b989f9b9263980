"""Feature bags: the HDF5 files, the packed cache that training reads, bags of other tools, splits."""
