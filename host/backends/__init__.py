"""What runs a quantised graph: one folder or file a device, all with the same bits."""
