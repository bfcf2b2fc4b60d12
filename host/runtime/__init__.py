"""What stands between a compiled region and a device: sessions, the driver, program files."""
