"""What files need on a host, as small sh scripts. Arguments come by position, never in the text.

Statuses of their own, so that no message has to be read: 44 there is no such file, 45 it is there.
"""

from typing import Final

MISSING: Final = 44
SAME: Final = 45

_DIGEST: Final = """
digest() {
  is=$(openssl dgst -sha256 -r "$1" 2>/dev/null) || is=$(sha256sum -- "$1") || exit 1
  is=${is#\\\\}
  echo "${is%% *}"
}
"""
"""Of a path that begins with `/`. openssl takes a quarter of sha256sum's time, and image archives
have hundreds of megabytes.
"""

READ: Final = f"""
[ -e "$1" ] || exit {MISSING}
exec head -c "$2" -- "$1"
"""
"""path, limit."""

WRITE: Final = f"""
set -e
path=$1 mode=$2 owner=$3 size=$4 in_place=$5
dir=$(dirname -- "$path")
mkdir -p -- "$dir"
new=
trap '[ -z "$new" ] || rm -f -- "$new"' EXIT
trap 'exit 1' HUP INT TERM
new=$(mktemp "$dir/.haechi.XXXXXX")
cat >"$new"
[ "$(stat -c %s -- "$new")" = "$size" ] || {{ echo "not all of $path arrived" >&2; exit 1; }}
if [ "$in_place" = yes ] && [ -e "$path" ]; then
  cmp -s -- "$new" "$path" && exit {SAME}
  cat -- "$new" >"$path"
  sync -- "$path"
  exit 0
fi
chmod "$mode" "$new"
[ -z "$owner" ] || chown "$owner" "$new"
if [ -f "$path" ] && [ ! -L "$path" ] && cmp -s -- "$new" "$path" &&
   [ "$(stat -c %a -- "$path")" = "$(stat -c %a -- "$new")" ]; then
  [ -z "$owner" ] && exit {SAME}
  [ "$(stat -c %u:%g -- "$path")" = "$(stat -c %u:%g -- "$new")" ] && exit {SAME}
fi
sync -- "$new"
mv -f -T -- "$new" "$path"
"""
"""path, mode, owner or nothing, size, `yes` for in place; the content on standard input, which also
ends where the connection does."""

BEGIN: Final = f"""{_DIGEST}
set -e
path=$1 wanted=$2 mode=$3 part=$4
dir=$(dirname -- "$path")
mkdir -p -- "$dir"
if [ -f "$path" ] && [ ! -L "$path" ]; then
  if [ "$(digest "$path")" = "$wanted" ]; then
    chmod "$mode" "$path"
    rm -f -- "$part"
    exit {SAME}
  fi
fi
[ -f "$part" ] || {{ echo 0 -; exit 0; }}
echo "$(stat -c %s -- "$part")" "$(digest "$part")"
"""
"""path, sha256, mode, partial file; prints how much of it is there and its sha256."""

APPEND: Final = """
if [ "$2" = 0 ]; then rm -f -- "$1"; fi
umask 077
exec cat >>"$1"
"""
"""partial file, where to begin (0: anew); the bytes on standard input."""

FINISH: Final = f"""{_DIGEST}
set -e
path=$1 wanted=$2 mode=$3 part=$4
if [ "$(digest "$part")" != "$wanted" ]; then rm -f -- "$part"; exit {MISSING}; fi
chmod "$mode" "$part"
mv -f -T -- "$part" "$path"
"""
"""path, sha256, mode, partial file."""

FETCH: Final = f"""{_DIGEST}
[ -f "$1" ] || exit {MISSING}
stat -c %s -- "$1"
digest "$1"
"""
"""path; prints size, then sha256."""

BRIDGE: Final = """
if command -v socat >/dev/null; then exec socat -t 86400 - "UNIX-CONNECT:$1"; fi
if command -v docker >/dev/null; then exec docker -H "unix://$1" system dial-stdio; fi
if command -v nc >/dev/null && nc -h 2>&1 | grep -q -e -U; then exec nc -U "$1"; fi
echo "neither socat nor docker nor nc is there to reach $1" >&2
exit 1
"""
"""path of a unix socket; standard input and output are joined to it."""


def script(text: str, *arguments: object) -> list[str]:
    """The argv that runs one."""
    return ["sh", "-c", text, "sh", *(str(argument) for argument in arguments)]
