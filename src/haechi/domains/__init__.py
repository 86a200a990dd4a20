"""The subjects haechi is about, a folder each, with the same furniture:

`model.py` types and errors · `ports.py` what the subject needs from outside · `service.py` what it
does · `store.py` its tables · `api.py` its REST face. Higher ones may call lower ones, upward only
by the bus or by checks that the higher one registers; the order is linted (pyproject.toml).
"""
