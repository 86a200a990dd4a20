"""`python -m haechi.agent run OPTIONS|accept DIR|renew DIR`: what `haechi agent` becomes.

Without click: a separate entry because every megabyte stays for ever in this process.
"""

import sys

# msgspec takes typing_extensions where it finds it, and needs nothing of it on Python ≥ 3.11;
# left out, the agent is 2 MB smaller.
sys.modules["typing_extensions"] = None  # type: ignore[assignment]


def main(argv: list[str]) -> int:
    """Exit codes as of the CLI (CONTRACTS 1)."""
    from haechi.errors import AppError

    try:
        if argv[:1] == ["run"] and len(argv) == 2:
            import msgspec

            from haechi.agent.main import Options, run

            run(msgspec.json.decode(argv[1], type=Options))
            return 0
        if argv[:1] in (["accept"], ["renew"]) and len(argv) == 2:
            # cryptography is built upon typing_extensions in places: only `run` goes without.
            del sys.modules["typing_extensions"]
            from pathlib import Path

            from haechi.agent.identity import accept, renew

            _ = (accept if argv[0] == "accept" else renew)(Path(argv[1]))
            return 0
    except AppError as error:
        return _say(error)
    sys.stderr.write(
        "usage: python -m haechi.agent run OPTIONS | accept DATA_DIR | renew DATA_DIR\n"
    )
    return 2


def _say(error: Exception) -> int:
    import os

    from haechi.errors import AppError, Conflict, Forbidden, Language, NotFound, Upstream

    assert isinstance(error, AppError)
    chosen = os.environ.get("HAECHI_LANGUAGE") or os.environ.get("LANG", "")
    language: Language = "ko" if chosen.lower().startswith("ko") else "en"
    text = error.problem(language)
    sys.stderr.write(f"{text['detail']}\n{text['remedy']}\n")
    kinds = ((NotFound, 3), (Conflict, 4), (Forbidden, 6), (Upstream, 5))
    return next((code for kind, code in kinds if isinstance(error, kind)), 70)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
