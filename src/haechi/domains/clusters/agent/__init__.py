"""The haechi agent on hosts: brought there, started, updated and removed over SSH.

On a Docker host it is a container, on a cluster's node a static pod; both find their invitation in
the data folder and enrol by themselves. Knows nothing of what an agent does once it runs.
"""
