"""Features, and batches mixed from clips or images on the device."""
