"""Write the reference of the historic interface from the code, in Korean and English.

python tools/interop_docs.py           write docs/reference/interop.md, .ko.md and the OpenAPI file
python tools/interop_docs.py --check   say what is out of date, exit 1 where something is

Requests and replies shown are those of the golden tests.
"""

# ruff: noqa: E501 - prose of two languages

import json
import re
import sys
from pathlib import Path

from haechi.interop.catalogue import describe
from haechi.interop.codes import CODES
from haechi.interop.endpoint import Endpoint
from haechi.interop.openapi import document
from haechi.settings import InteropSettings

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
STORIES = ROOT / "tests" / "golden" / "interop"
GENERATED = "<!-- Written by tools/interop_docs.py; do not edit. -->\n\n"
GENERAL = ("0000", "0005", "0010", "0011", "0013", "0015", "0016", "0017", "0021", "9999")

WORDS = {
    "en": {
        "title": "The historic HTTP interface",
        "intro": """Programs written for the older system (a VMS with its GUI, AI packages with fixed
addresses, setup and optimisation scripts) call haechi by these paths. It is translation only:
behind each call are haechi's own services, and what a call does shows in the dashboard, in
`GET /api/v1/operations` and in the audit log, by the caller's address.""",
        "listeners": "Switching it on",
        "listeners_text": """It is off until listeners are configured, and each listener serves every
path. Old callers use plain HTTP without credentials, so only addresses within `interop.allow` are
served (everybody else gets HTTP 403), loopback only where it is listed:""",
        "settings": "| setting | default | meaning |",
        "ids": "Ids",
        "ids_text": """Ids are strings. haechi has its own (`dev-…`, `clu-…`, `ver-…` for a version of
an AI) and keeps foreign ones (`"0x01"`, 24 hex digits, `"ni01"`, `"K3bx"`) beside them; both are
accepted everywhere. Looked up in this order: own id, foreign id, the external VMS
(`interop.vms_url`: 5 s, 2 further tries; its answer is imported and asked for again after a minute
of use). Shown is the id that the caller used, else the only foreign one, else haechi's own. Without a
VMS at hand, `haechi.testing.vms.MockVms` plays one, with its faults.""",
        "wire": "Requests and replies",
        "wire_text": """POST with a JSON object in UTF-8 (any Content-Type), or GET with query
parameters; a trailing slash is accepted. The reply is JSON with `code` and `message`, **HTTP 200
even for errors**. Further keys, which old callers ignore: `detail` (reason and remedy; English
with `Accept-Language: en`), `operation_id`, `state` (`done`, `running`, `failed`), `nodes` (one
entry for each host), `busy_with`. Not HTTP 200: an address that is not allowed (403), an unknown
path, the look-ups that say so (404), and too much at once (503 with `Retry-After`, code `9999`).
Checks, the first hit wins: 0005, 0013, 0016 (body), 0021, 0015, 0017, 0010, 0016 (fields), 0018 and
0019, 0004, 0003, then the work. A failed check changes nothing.""",
        "long": """Calls marked ⏳ take long: the reply is held until the work is done, or for
`interop.wait_s`; then it is `0000` with `"state": "running"`. A dropped connection does not stop
the work, the same call repeated meanwhile joins it, a different one on the busy subject gets `9999`
with `busy_with`. A device, or a cluster whose API does not answer, is waited for half a minute.""",
        "who": "Who a caller is",
        "who_text": """A token (`Authorization: Bearer …`) decides. Without one, a known id in the body
(`did`, `nid`, `eid`); without that, the source address, and only where exactly one enrolled device
has it. Never `username`. An id in the body that differs from the token's is kept as *claimed* and
shown, never refused. Who is nobody gets `0004` and is shown in the audit log.""",
        "codes": "Codes",
        "codes_head": "| code | message | sent when |",
        "general": "Any call may send",
        "paths": "Endpoints",
        "field": "| field | required | kind | meaning |",
        "also": "also",
        "adds": "Reply adds",
        "further": "Further codes",
        "nothing": "none",
        "example": "Example",
        "year3": "Taken where the body has",
        "form": "Also as multipart/form-data with `file` and `version`.",
        "twice": "A body that was JSON-encoded twice is understood.",
        "times": "Clock forms: 12 digits yyyymmddHHMM, 14 with seconds, ISO 8601 with `T` or a "
        "space; without a zone `interop.timezone`.",
        "packages": "Packages made for the old system",
        "packages_text": """They run unchanged. An AI reaches its agent and nobody else, so one that posts to a fixed address
is led there by a redirect on its device: set the device's label `redirect` to the old addresses
and ports (`192.0.2.10:5231,192.0.2.10:6432`), an extra listener of this server among them. A program
outside the AIs, and an AI that may use the internet, reach an extra listener that has the old
address and port as well.
The agent then leads exactly these destinations, coming from this device's AI containers only and
never from the host itself, to its own intake, which knows by the container who calls. On a
cluster's node these are its AI pods; until one that is about to begin is seen, any pod of the
cluster, for an old program ends where its first call goes nowhere.""",
    },
    "ko": {
        "title": "구 시스템 HTTP 인터페이스",
        "intro": """구 시스템용으로 만든 프로그램(GUI가 있는 VMS, 주소가 고정된 AI 패키지, 설치·최적화
스크립트)이 이 경로로 haechi를 호출합니다. 변환만 할 뿐이며, 호출 뒤에서는 haechi의 서비스가
그대로 동작합니다. 호출이 한 일은 대시보드, `GET /api/v1/operations`, 감사 기록(호출자 주소
기준)에서 볼 수 있습니다.""",
        "listeners": "켜기",
        "listeners_text": """수신 주소를 설정하기 전에는 꺼져 있으며, 각 수신 주소는 모든 경로를
제공합니다. 구 프로그램은 인증 없는 HTTP를 쓰므로 `interop.allow`에 든 주소만 받고 나머지는
HTTP 403으로 거부합니다. 루프백도 목록에 있어야 받습니다.""",
        "settings": "| 설정 | 기본값 | 의미 |",
        "ids": "ID",
        "ids_text": """ID는 문자열입니다. haechi의 ID(`dev-…`, `clu-…`, AI 버전은 `ver-…`)와 외부
ID(`"0x01"`, 16진수 24자리, `"ni01"`, `"K3bx"`)를 모두 어디서나 받습니다. 찾는 순서는 haechi ID,
외부 ID, 외부 VMS(`interop.vms_url`, 5초, 재시도 2회)이며, VMS의 응답은 저장하고 사용 중이면
1분 뒤 다시 확인합니다. 응답에는 호출자가 쓴 ID, 없으면 하나뿐인 외부 ID, 없으면 haechi ID를
보여 줍니다. VMS가 없을 때는 `haechi.testing.vms.MockVms`가 VMS 역할을 하며, 장애도 흉내 냅니다.""",
        "wire": "요청과 응답",
        "wire_text": """UTF-8 JSON 객체의 POST(Content-Type 무관) 또는 질의 매개변수의 GET을
받으며, 끝의 슬래시도 받습니다. 응답은 `code`와 `message`가 있는 JSON이며 **오류도 HTTP
200**입니다. 추가 키(구 프로그램은 무시): `detail`(원인과 조치), `operation_id`,
`state`(`done`, `running`, `failed`), `nodes`(호스트별 결과), `busy_with`. HTTP 200이 아닌 경우:
허용되지 않은 주소(403), 없는 경로와 일부 조회(404), 과부하(503과 `Retry-After`, 코드 `9999`).
검사 순서: 0005, 0013, 0016(본문), 0021, 0015, 0017, 0010, 0016(필드), 0018·0019, 0004, 0003, 그다음
작업. 검사에 실패하면 아무것도 바뀌지 않습니다.""",
        "long": """⏳ 표시는 오래 걸리는 호출입니다. 끝날 때까지, 또는 `interop.wait_s`초까지
기다렸다가 응답하며, 그때까지 끝나지 않으면 `0000`과 `"state": "running"`을 보냅니다. 연결이
끊겨도 작업은 계속되고, 같은 호출을 다시 보내면 그 작업에 합류하며, 같은 대상에 대한 다른
호출은 `busy_with`가 있는 `9999`를 받습니다. 응답하지 않는 장치나 클러스터 API는 30초 동안
기다립니다.""",
        "who": "호출자 식별",
        "who_text": """토큰(`Authorization: Bearer …`)이 우선합니다. 없으면 본문의 알려진 ID(`did`,
`nid`, `eid`), 그것도 없으면 발신 주소이며, 그 주소를 가진 등록 장치가 정확히 하나일 때만
씁니다. `username`은 쓰지 않습니다. 본문의 ID가 토큰과 다르면 거부하지 않고 *주장된 값*으로
보관해 보여 줍니다. 알 수 없는 호출자는 `0004`를 받고 감사 기록에 남습니다.""",
        "codes": "코드",
        "codes_head": "| 코드 | 메시지 | 보내는 경우 |",
        "general": "모든 호출이 보낼 수 있는 코드",
        "paths": "경로",
        "field": "| 필드 | 필수 | 종류 | 의미 |",
        "also": "다른 이름",
        "adds": "응답에 추가",
        "further": "그 밖의 코드",
        "nothing": "없음",
        "example": "예",
        "year3": "본문에 다음이 있을 때",
        "form": "multipart/form-data(`file`, `version`)로도 보낼 수 있습니다.",
        "twice": "두 번 JSON 인코딩된 본문도 받습니다.",
        "times": "시각 형식: yyyymmddHHMM 12자리, 초까지 14자리, `T` 또는 공백의 ISO 8601. 시간대가 "
        "없으면 `interop.timezone`입니다.",
        "packages": "구 시스템용 패키지",
        "packages_text": """수정 없이 실행됩니다. AI는 자기 에이전트에만 닿으므로, 고정 주소로 보내는 AI는 장치의 전환으로
이어집니다. 장치 라벨 `redirect`에 옛 주소와 포트를 적으면(`192.0.2.10:5231,192.0.2.10:6432`,
이 서버의 추가 수신 주소도 포함) 에이전트가 이 장치의 AI 컨테이너에서 나가는 그
목적지만 자신의 수신구로 돌립니다. 호스트 자신의 통신은 건드리지 않으며, 호출한 AI는
컨테이너로 식별합니다. 클러스터 노드에서는 그 노드의 AI 파드가 대상이며, 곧 시작할 AI를
알아보기 전까지는 클러스터의 모든 파드가 대상입니다. 구 프로그램은 첫 호출이 닿지 않으면
끝나기 때문입니다. AI가 아닌 프로그램과 인터넷이 허용된 AI는 옛 주소와 포트의 추가 수신
주소로도 닿습니다.""",
    },
}

# The settings say what they are in English, where they are declared; a new one needs its line here.
SETTINGS_KO = {
    "listen": "구 프로그램용 평문 HTTP 추가 수신 주소(HOST:PORT). 비어 있으면 끔.",
    "allow": "추가 수신 주소가 받아 주는 네트워크. 나머지는 모두 거부.",
    "require_token": "추가 수신 주소의 호출자는 토큰을 보여야 함.",
    "vms_url": "모르는 ID를 물어볼 외부 VMS의 기본 URL. 비어 있으면 없음.",
    "timezone": "시간대가 없는 옛 시각의 시간대. 장치의 에이전트는 Asia/Seoul을 씀.",
    "wait_s": "오래 걸리는 호출도 늦어도 이 시간(초) 뒤에는 응답. 0이면 끝났을 때.",
    "strict": "구 인터페이스가 모르는 필드를 거부.",
    "inbox": "다음 업로드 호출이 가져갈 zip을 두는 폴더. 비어 있으면 데이터 폴더의 `inbox`.",
    "rate_per_s": "추가 수신 주소에서 주소 하나가 1초에 할 수 있는 호출 수.",
    "form_options": "구 프로그램이 구성하는 클러스터의 옵션(POST /clusters와 같음): `pod_cidr`, "
    "`accept`(받아들일 경고의 이름), `clean_leftovers`, `profile`… 모든 호출의 모든 호스트에 적용.",
}


def examples() -> dict[str, dict]:
    """Method and path → the first golden call that was done."""
    found: dict[str, dict] = {}
    for story in ("inventory", "packages", "deploy", "reports", "year3"):
        for step in json.loads((STORIES / f"{story}.json").read_text("utf-8"))["steps"]:
            if "call" not in step or "raw" in step:
                continue
            key = re.sub(r"(?<=.)/$", "", step["call"]) if step["call"] != "GET /" else "GET /"
            reply = step["reply"]
            good = not isinstance(reply, dict) or reply.get("code") in {"0000", 200}
            if key not in found or (good and not found[key]["good"]):
                found[key] = {**step, "good": good}
    return found


def shown(endpoint: Endpoint, given: dict, language: str) -> list[str]:
    words = WORDS[language]
    example = given.get(f"{endpoint.method} {endpoint.path}")
    if example is None or (endpoint.when and endpoint.path == "/upload_edgeAi"):
        return []
    lines = [f"{words['example']}:", "", "```json"]
    if "body" in example:
        lines.append(json.dumps(example["body"], ensure_ascii=False))
    elif "query" in example:
        query = "&".join(f"{name}={value}" for name, value in example["query"].items())
        lines.append(f'"GET {endpoint.path}?{query}"')
    lines += [json.dumps(example["reply"], ensure_ascii=False), "```", ""]
    return lines


def endpoint_lines(endpoint: Endpoint, given: dict, language: str) -> list[str]:
    words = WORDS[language]
    text = getattr(endpoint.text, language)
    mark = " ⏳" if endpoint.long else ""
    lines = [
        f"### {endpoint.method} {endpoint.path}{mark}",
        "",
        f"{text}. (§{endpoint.section})",
        "",
    ]
    if endpoint.when:
        lines += [f"{words['year3']} {', '.join(f'`{name}`' for name in endpoint.when)}.", ""]
    if endpoint.fields:
        lines += [words["field"], "|---|---|---|---|"]
        for item in endpoint.fields:
            others = ", ".join(f"`{name}`" for name in item.names[1:])
            meaning = getattr(item.text, language)
            if others:
                meaning += f" ({words['also']}: {others})"
            required = "✔" if item.required else ""
            lines.append(f"| `{item.name}` | {required} | {item.kind.name} | {meaning} |")
        lines.append("")
    notes = [words[name] for name in ("form",) if endpoint.multipart]
    notes += [words["twice"]] if endpoint.twice else []
    notes += [words["times"]] if any(item.kind.name == "time" for item in endpoint.fields) else []
    lines += [*notes, ""] if notes else []
    adds = ", ".join(f"`{key}`" for key in endpoint.reply) or words["nothing"]
    codes = ", ".join(endpoint.codes) or words["nothing"]
    lines += [f"{words['adds']}: {adds}. {words['further']}: {codes}.", ""]
    return lines + shown(endpoint, given, language)


def page(language: str) -> str:
    words = WORDS[language]
    endpoints = describe()
    given = examples()
    other = "[한국어](interop.ko.md)" if language == "en" else "[English](interop.md)"
    lines = [f"# {words['title']}", "", f"{other} · [OpenAPI](interop-openapi.json)", ""]
    lines += [words["intro"], "", f"## {words['listeners']}", "", words["listeners_text"], ""]
    lines += [
        "```sh",
        'HAECHI_INTEROP__LISTEN=\'["127.0.0.1:5231", "127.0.0.1:6432"]\' \\',
        "HAECHI_INTEROP__ALLOW='[\"127.0.0.0/8\"]' haechi serve",
        'curl -d \'{"name": "edge-1", "ip": "192.0.2.21"}\' http://127.0.0.1:5231/add_newDevice',
        "```",
        "",
        words["settings"],
        "|---|---|---|",
    ]
    for name, field in InteropSettings.model_fields.items():
        described = " ".join((field.description or "").split())
        meaning = {"en": described, "ko": SETTINGS_KO[name]}[language]
        lines.append(f"| `interop.{name}` | `{field.default}` | {meaning} |")
    for part in ("ids", "wire"):
        lines += ["", f"## {words[part]}", "", words[f"{part}_text"]]
    lines += ["", words["long"], "", f"## {words['who']}", "", words["who_text"], ""]
    lines += [f"## {words['codes']}", "", words["codes_head"], "|---|---|---|"]
    for code, known in CODES.items():
        lines.append(f"| {code} | {known.message} | {getattr(known.sent_when, language)} |")
    lines += ["", f"{words['general']}: {', '.join(GENERAL)}.", ""]
    lines += [f"## {words['packages']}", "", words["packages_text"], "", f"## {words['paths']}", ""]
    for endpoint in endpoints:
        lines += endpoint_lines(endpoint, given, language)
    return GENERATED + "\n".join(lines).rstrip() + "\n"


def pages() -> dict[Path, str]:
    schema = json.dumps(document(describe()), ensure_ascii=False, indent=1) + "\n"
    return {
        REFERENCE / "interop.md": page("en"),
        REFERENCE / "interop.ko.md": page("ko"),
        REFERENCE / "interop-openapi.json": schema,
    }


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for path, text in pages().items():
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(path.relative_to(ROOT))
        if not check:
            path.write_text(text, "utf-8")
    for path in stale:
        print(f"{'out of date' if check else 'written'}: {path}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
