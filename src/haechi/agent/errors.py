"""What can go wrong on a device, said to the person at its console and to the AIs in it.

Failures of *commands* are in `protocol.problems`, because the server renders them.
"""

from haechi.errors import Conflict, Forbidden, Invalid, NotFound, Text, Unavailable, Upstream


class NotEnrolled(NotFound):
    code = "device.not_enrolled"
    detail = Text(
        "이 폴더({data_dir})에는 등록된 장치가 없습니다.",
        "There is no enrolled device in {data_dir}.",
    )
    remedy = Text(
        "서버에서 등록 명령을 받아 'haechi agent enrol'을 먼저 실행하세요.",
        "Get the enrolment command from the server and run 'haechi agent enrol' first.",
    )


class AlreadyRunning(Conflict):
    code = "device.already_running"
    detail = Text(
        "이 데이터 폴더({data_dir})를 쓰는 에이전트가 이미 실행 중입니다.",
        "An agent with this data folder ({data_dir}) is running already.",
    )
    remedy = Text(
        "먼저 실행 중인 에이전트를 멈추거나 다른 데이터 폴더를 지정하세요.",
        "Stop the running agent first, or give another data folder.",
    )


class AlreadyEnrolled(Conflict):
    code = "device.already_enrolled"
    detail = Text(
        "이 폴더는 이미 장치 '{device_id}'(으)로 등록되어 있습니다.",
        "This folder is enrolled already, as device '{device_id}'.",
    )
    remedy = Text(
        "다시 등록하려면 --force를 사용하거나 새 데이터 폴더를 지정하세요.",
        "Use --force to enrol again, or give a new data folder.",
    )


class ServerUnreachable(Upstream):
    code = "device.server_unreachable"
    detail = Text(
        "서버({server})에 연결할 수 없습니다: {reason}",
        "The server ({server}) cannot be reached: {reason}",
    )
    remedy = Text(
        "네트워크와 서버 주소, 방화벽(에이전트 포트)을 확인하세요.",
        "Check the network, the server's address and the firewall (agents' port).",
    )


class EnrolmentRefused(Forbidden):
    code = "device.enrolment_refused"
    detail = Text(
        "서버가 등록을 거절했습니다: {reason}", "The server refused the enrolment: {reason}"
    )
    remedy = Text(
        "토큰은 한 번만, 발급 후 1시간 동안 쓸 수 있습니다. 새 등록 명령을 받으세요.",
        "A token works once and for an hour. Ask the server for a new enrolment command.",
    )


class QueueFull(Unavailable):
    code = "intake.queue_full"
    detail = Text(
        "장치의 결과 대기열이 밀려 지금은 더 받을 수 없습니다.",
        "The device's queue of results is behind and takes no more right now.",
    )
    remedy = Text(
        "{retry_after_s}초 뒤 다시 보내세요. 응답받지 못한 결과는 저장되지 않았습니다.",
        "Send it again in {retry_after_s} s. What was not acknowledged was not stored.",
    )


class TooManyConnections(Unavailable):
    code = "intake.too_many_connections"
    detail = Text(
        "이 주소에서 열린 연결이 너무 많거나 장치의 연결이 모두 사용 중입니다.",
        "This address has too many connections open, or all of the device's are taken.",
    )
    remedy = Text(
        "연결을 재사용하거나 닫고 {retry_after_s}초 뒤 다시 시도하세요.",
        "Use connections again or close them, and try again in {retry_after_s} s.",
    )


class UnknownCaller(Forbidden):
    code = "intake.unknown_caller"
    detail = Text(
        "이 토큰 또는 주소는 이 장치의 배포가 아닙니다.",
        "This token or address belongs to no deployment of this device.",
    )
    remedy = Text(
        "컨테이너에 주어진 HAECHI_TOKEN을 그 컨테이너 안에서만 사용하세요.",
        "Use the HAECHI_TOKEN given to the container, from within that container only.",
    )


class TooLarge(Invalid):
    code = "intake.too_large"
    http_status = 413
    detail = Text(
        "본문이 {limit_bytes}바이트를 넘습니다.", "The body is larger than {limit_bytes} bytes."
    )
    remedy = Text("더 작은 묶음으로 나누어 보내세요.", "Send smaller batches.")


class BadBody(Invalid):
    code = "intake.bad_body"
    http_status = 400
    detail = Text("본문을 읽을 수 없습니다: {problem}", "The body cannot be read: {problem}")
    remedy = Text(
        "JSON 객체 하나 또는 1,000개 이하의 목록을 보내세요. NaN은 JSON이 아닙니다.",
        "Send one JSON object or a list of up to 1 000. NaN is no JSON.",
    )


class RowsRefused(Invalid):
    code = "intake.rows_refused"
    detail = Text(
        "결과 {count}개가 규격에 맞지 않아 저장하지 않았습니다.",
        "{count} results do not fit the format and were not stored.",
    )
    remedy = Text(
        "'refused'의 번호와 이유를 보고 고쳐 보내세요.",
        "See index and reason in 'refused', correct them and send them again.",
    )


class NoSuchPath(NotFound):
    code = "intake.no_such_path"
    detail = Text("'{path}' 경로는 없습니다.", "There is no '{path}' here.")
    remedy = Text(
        "POST /v1/results, GET /v1/assignments, POST /v1/ready를 사용할 수 있습니다.",
        "There are POST /v1/results, GET /v1/assignments and POST /v1/ready.",
    )
