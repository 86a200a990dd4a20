"""The historic HTTP interface: translation only, calls the same services. Filled by its issue."""
