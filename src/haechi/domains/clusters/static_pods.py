"""The control plane's own pods on a host: held back, let go, restarted one after the other.

The kubelet runs what lies in its manifests folder. Holding a pod back means moving its manifest out
of there; nothing here needs the Kubernetes API.
"""

from collections.abc import Sequence
from typing import Final

from haechi.domains.clusters.host.ports import Shell

FOLDER: Final = "/etc/kubernetes/manifests"
HELD_FOLDER: Final = "/etc/kubernetes/manifests.haechi"
ALL: Final = ("kube-controller-manager", "kube-scheduler", "kube-apiserver", "etcd")
"""In the order in which they can be ended without one crying for another."""
STOP_S: Final = 180
PATIENCE_S: Final = 75
"""For a kubelet to end them by itself: it kills after half a minute."""
BACK_OFF_S: Final = 300
"""So long a kubelet waits at most before it starts a container again that has ended many times, as
the control plane's do where their certificates have ended.
"""
READY_S: Final = BACK_OFF_S + 120
GRACE_S: Final = {"kube-apiserver": 10}
"""After that a restarted pod is killed; others get `_GRACE_S`, as the kubelet gives. An API server
takes nothing new from its SIGTERM on, answers what it has begun within moments, and then waits a
minute for watches that never end of themselves. It keeps nothing that could be lost.
"""
_GRACE_S: Final = 30

_ALIVE: Final = """\
alive() {
  ids=$(ctr -n k8s.io tasks ls | awk 'NR > 1 && $3 == "RUNNING" { print $1 }')
  for name in "$@"; do
    filter="labels.\\"io.kubernetes.container.name\\"==$name"
    for id in $(ctr -n k8s.io containers ls -q "$filter"); do
      case " $(echo $ids) " in *" $id "*) echo "$name/$id" ;; esac
    done
  done
}
signal() {
  how=$1; shift
  for one in "$@"; do ctr -n k8s.io tasks kill -s "$how" "${one#*/}" || :; done
}
"""
"""`alive NAME...`: what runs of these containers, as name/id. `signal SIGTERM NAME/ID...`."""
HOLD_SCRIPT: Final = f"""\
set -eu
from=$1; to=$2; patience=$3; grace=$4; limit=$5; shift 5
{_ALIVE}
mkdir -p -m 0700 "$to"
systemctl is-active --quiet kubelet || systemctl start kubelet
for name in "$@"; do
  if [ -e "$from/$name.yaml" ]; then mv "$from/$name.yaml" "$to/"; fi
done
waited=0
while left=$(alive "$@") && [ -n "$left" ]; do
  waited=$((waited + 1))
  if [ "$waited" -eq "$patience" ]; then
    systemctl restart kubelet
    signal SIGTERM $(alive "$@")
  elif [ "$waited" -eq $((patience + grace)) ]; then
    signal SIGKILL $left
  elif [ "$waited" -gt "$limit" ]; then
    echo "still running: $(echo "$left" | cut -d / -f 1 | tr '\\n' ' ')" >&2
    exit 75
  fi
  sleep 1
done
"""
"""A kubelet that has not seen the API since it started ends no pod whose manifest is gone, and
starts a container again that somebody else ends; started anew it does not know of them.
"""
RELEASE_SCRIPT: Final = """\
set -eu
to=$1; from=$2; shift 2
for name in "$@"; do
  if [ -e "$from/$name.yaml" ]; then mv "$from/$name.yaml" "$to/"; fi
done
rmdir "$from" 2>/dev/null || :
systemctl is-active --quiet kubelet || systemctl start kubelet
"""
RESTART_SCRIPT: Final = f"""\
set -eu
name=$1; grace=$2; limit=$3
{_ALIVE}
before=$(alive "$name")
signal SIGTERM $before
sleep 1
waited=0
while true; do
  now=; left=
  for one in $(alive "$name"); do
    case " $(echo $before) " in *" $one "*) left="$left $one" ;; *) now=$one ;; esac
  done
  if [ -n "$now" ] && [ -z "$left" ]; then exit 0; fi
  waited=$((waited + 1))
  if [ "$waited" -eq "$grace" ]; then signal SIGKILL $left; fi
  if [ "$waited" -gt "$limit" ]; then echo "$name did not come back" >&2; exit 75; fi
  sleep 1
done
"""


async def hold(shell: Shell, names: Sequence[str] = ALL) -> None:
    """End these pods and keep them from coming back. Idempotent."""
    limits = [str(PATIENCE_S), str(_GRACE_S), str(STOP_S)]
    argv = ["sh", "-c", HOLD_SCRIPT, "haechi-hold", FOLDER, HELD_FOLDER, *limits, *names]
    await shell.run(argv, root=True, timeout_s=STOP_S + 60)


async def release(shell: Shell, names: Sequence[str] = ALL) -> None:
    """Let them run again. Idempotent; does not wait for them."""
    argv = ["sh", "-c", RELEASE_SCRIPT, "haechi-release", FOLDER, HELD_FOLDER, *names]
    await shell.run(argv, root=True, timeout_s=60)


async def restart(shell: Shell, name: str) -> None:
    """End one pod's container and wait for the one that the kubelet starts in its place."""
    grace_s = str(GRACE_S.get(name, _GRACE_S))
    argv = ["sh", "-c", RESTART_SCRIPT, "haechi-restart", name, grace_s, str(READY_S)]
    await shell.run(argv, root=True, timeout_s=READY_S + 60)
