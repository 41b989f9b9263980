"""Feature bags: the HDF5 files, the packed cache that training reads, other tools' bags, splits."""
