"""Shipped stand-ins and real test gear: for haechi's own tests and for integrators' tests."""
