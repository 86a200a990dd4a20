"""Deployments: package versions running on devices, and the cameras handed to them.

Knows engines only by the `Engine` port; a container is somebody else's object, named by deployment
id. What must hold is in the desired state of each device; commands only make it happen sooner.
"""
