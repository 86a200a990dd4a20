"""The only places that know a third-party client; each implements a port and translates errors."""
