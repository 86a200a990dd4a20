"""`haechi …`: every API verb for people and scripts; one module per noun, loaded when used."""
