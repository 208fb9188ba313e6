"""Child processes: started, supervised, ended with whoever started them."""
