"""Agents: enrolment, the one WebSocket of each device, its desired state, commands and presence.

Knows devices only by id. What the desired state says is contributed by the domains above
(`register_section`); what frames mean for results and metrics is their handlers' business.
"""
