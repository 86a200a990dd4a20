"""Who may do what: people (sessions, API tokens), devices (certificates), AIs (deployment tokens).

Knows no other domain but audit: a device or a deployment is an id here, and the domains that own
them ask for credentials and take them back.
"""
