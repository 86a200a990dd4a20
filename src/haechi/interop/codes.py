"""The 19 codes of the historic interface: their messages, as they always were, and when sent."""

from dataclasses import dataclass
from typing import Any, Final

from haechi.errors import Language, Text


@dataclass(frozen=True, slots=True)
class Code:
    message: str
    """Old callers compare it: never change one."""
    sent_when: Text


CODES: Final = {
    "0000": Code("처리 성공", Text("처리 완료", "done")),
    "0001": Code("YES", Text("보내지 않음 (예약)", "never (reserved)")),
    "0002": Code("NO", Text("보내지 않음 (예약)", "never (reserved)")),
    "0003": Code(
        "ID 중복 오류",
        Text(
            "ID, 호스트 또는 이름을 다른 것이 쓰고 있음", "id, host or name taken by something else"
        ),
    ),
    "0004": Code(
        "ID 유효성 오류",
        Text("알 수 없는 ID, 그 조합이 배포되어 있지 않음", "unknown id; the pair is not deployed"),
    ),
    "0005": Code(
        "패스워드 오류",
        Text(
            "요구되는 토큰이 없거나 틀림",
            "a token this listener demands is missing, or one is wrong",
        ),
    ),
    "0010": Code(
        "Parsing 오류",
        Text(
            "값의 형식이 다르거나 읽을 수 없음, 읽을 수 없는 zip",
            "value of the wrong type or not parsable; unreadable zip",
        ),
    ),
    "0011": Code(
        "데이터베이스 연결 오류",
        Text("haechi 데이터베이스에 접근할 수 없음", "haechi's database out of reach"),
    ),
    "0012": Code("알 수 없는 오류", Text("보내지 않음 (9999 사용)", "never; 9999 is used")),
    "0013": Code(
        "Invalid 프로토콜 오류",
        Text(
            "있는 경로에 다른 HTTP 메서드, 카메라 url이 rtsp/rtsps가 아님",
            "wrong HTTP method on a known path; camera `url` not rtsp/rtsps",
        ),
    ),
    "0014": Code(
        "시스템 연동 오류",
        Text(
            "연결된 시스템의 실패: SSH, 호스트, Kubernetes, 빌드, 레지스트리, VMS",
            "failure behind haechi: SSH, host, Kubernetes, build, registry, VMS",
        ),
    ),
    "0015": Code(
        "필수 파라미터 Missing 오류",
        Text('필수 키가 없거나 null 또는 ""', 'required key missing, null or `""`'),
    ),
    "0016": Code(
        "길이 초과 오류",
        Text(
            "본문 1 MB, id 64자, 이름과 version 128자, filename 255자, 그 밖의 글 2000자, "
            "wlist 100개를 넘음",
            "JSON body > 1 MB, id > 64, names and `version` > 128, `filename` > 255, other text "
            "> 2000 characters, `wlist` > 100",
        ),
    ),
    "0017": Code(
        "규격에 없는 필드 오류",
        Text(
            "알 수 없는 필드 (interop.strict일 때만, 아니면 무시)",
            "unknown field, only with `interop.strict`; else ignored",
        ),
    ),
    "0018": Code("날짜포맷 오류", Text("잘못된 날짜", "bad date")),
    "0019": Code(
        "Invalid 코드 값 오류",
        Text(
            "읽었으나 허용되지 않는 값: 목록, 범위, 주소, 이름 규칙",
            "parsed but not allowed: enumeration, range, address, name grammar",
        ),
    ),
    "0020": Code(
        "데이터 Missing 오류",
        Text(
            "필요한 데이터가 없음: zip, Dockerfile, 로그인 정보, 분류용 패키지",
            "needed data nowhere: zip, Dockerfile, credentials, package for a class",
        ),
    ),
    "0021": Code(
        "헤더정보 누락 오류",
        Text("본문이 없거나 JSON 객체가 아님", "no body, not JSON, or not an object"),
    ),
    "9999": Code(
        "기타 오류",
        Text(
            "그 밖의 모든 오류, 사용 중인 대상, 거부된 삭제, 과부하",
            "all else; also a busy subject, a refused delete, overload",
        ),
    ),
}


class Refusal(Exception):
    """An answer of the old wire that is not success. `more` are further keys of the reply."""

    def __init__(
        self,
        code: str,
        ko: str = "",
        en: str = "",
        *,
        status: int = 200,
        more: dict[str, Any] | None = None,
    ) -> None:
        self.code = code
        self.detail = Text(ko, en or ko)
        self.status = status
        self.more = more or {}
        super().__init__(code, en or ko)

    def reply(self, language: Language) -> dict[str, Any]:
        return reply(self.code, detail=getattr(self.detail, language), **self.more)


def reply(code: str, *, detail: str = "", **more: Any) -> dict[str, Any]:
    """`code` and `message` first, as old programs print them."""
    body: dict[str, Any] = {"code": code, "message": CODES[code].message}
    if detail:
        body["detail"] = detail
    return body | more
