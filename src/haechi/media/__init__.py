"""The media process of a device: the single pull of each camera, and who may see it.

    main.py       starts and stops everything; the process's entry
    desired.py    what has to be pulled and served, kept on disk (0600); no I/O but that file
    relay.py      port: something that pulls sources once and serves them under inner names
    go2rtc.py     relay by a go2rtc child;  pyav_relay.py   relay in this process, where none exists
    gate.py       the doors that AIs and neighbours come through: tokens, cutting, time limits
    rtsp.py       the little RTSP the gate has to understand
    watch.py      keeps an eye on streams: online, size, rate, newest key picture
    faults.py     why a camera does not play, from what the relay said
    stills.py     a key picture as JPEG
    control.py    HTTP over the unix socket for the agent

Knows camera passwords and hands them to nobody: not to logs, states, process lists or files that
others read. Knows nothing of assignments, deployments or the server. Pre-roll ring, clips and live
view attach to `watch.Watch` (every packet passes it) and to `relay` later.
"""
