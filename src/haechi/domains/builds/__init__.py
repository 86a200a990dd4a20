"""Builds: a package version's zip becomes an image in the site registry, for each platform.

Knows Dockerfiles, base-image maps and what a build went through; engines and registries are ports.
Must not know devices, deployments or clusters: who still uses an image is told by registration.
"""
