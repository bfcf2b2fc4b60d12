"""What operators of a torch graph look like, one file each."""
