"""`haechi agent`: the process on every device. Imports protocol, core and named adapters only."""
