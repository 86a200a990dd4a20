"""Why a credential, a user or a token was refused."""

from haechi.errors import Conflict, Forbidden, Invalid, NotFound, Text, TooMany, Unauthorized


class WrongCredentials(Unauthorized):
    """One answer for an unknown name, a wrong password and a disabled user: nothing to probe."""

    code = "auth.wrong_credentials"
    detail = Text(
        "사용자 이름 또는 비밀번호가 올바르지 않습니다.", "The name or the password is wrong."
    )
    remedy = Text(
        "다시 입력하세요. 비밀번호를 잊었다면 관리자에게 재설정을 요청하세요.",
        "Try again. If the password is forgotten, ask an administrator to reset it.",
    )


class WrongCurrentPassword(Invalid):
    """Not 401: the session itself is good."""

    code = "auth.wrong_current_password"
    detail = Text("현재 비밀번호가 올바르지 않습니다.", "The current password is wrong.")
    remedy = Text("현재 비밀번호를 다시 입력하세요.", "Enter the current password again.")


class OwnPassword(Invalid):
    code = "auth.own_password"
    detail = Text(
        "자신의 비밀번호는 현재 비밀번호를 입력해야 변경할 수 있습니다.",
        "Your own password is changed by giving the current one.",
    )
    remedy = Text(
        "'비밀번호 변경' 또는 'haechi user password'를 사용하세요.",
        "Use 'Change password' or `haechi user password`.",
    )


class TooManyLogIns(TooMany):
    code = "auth.too_many_log_ins"
    detail = Text(
        "로그인 실패가 너무 많아 잠시 차단되었습니다.",
        "Too many failed log-ins: blocked for a while.",
    )
    remedy = Text("{retry_after_s}초 뒤 다시 시도하세요.", "Try again in {retry_after_s} s.")


class PasswordChangeNeeded(Forbidden):
    code = "auth.password_change_needed"
    detail = Text("먼저 비밀번호를 변경해야 합니다.", "The password must be changed first.")
    remedy = Text(
        "대시보드에서 변경하거나 'haechi user password'를 실행하세요.",
        "Change it in the dashboard or with `haechi user password`.",
    )


class WeakPassword(Invalid):
    code = "auth.weak_password"
    detail = Text(
        "비밀번호로 쓸 수 없습니다: {reason_ko}", "This password cannot be used: {reason}"
    )
    remedy = Text(
        "사용자 이름과 다른 10자 이상의 비밀번호를 정하세요.",
        "Choose one of at least 10 characters that is not the user's name.",
    )


class BadUserName(Invalid):
    code = "auth.bad_user_name"
    detail = Text(
        "'{name}'은(는) 사용자 이름으로 쓸 수 없습니다.", "'{name}' cannot be a user name."
    )
    remedy = Text(
        "1~64자의 글자, 숫자, '.', '_', '-', '@'를 사용하세요.",
        "Use 1-64 letters, digits, '.', '_', '-' or '@'.",
    )


class UserNameTaken(Conflict):
    code = "auth.user_name_taken"
    detail = Text("'{name}' 사용자가 이미 있습니다.", "There is already a user '{name}'.")
    remedy = Text("다른 이름을 정하세요.", "Choose another name.")


class LastAdmin(Conflict):
    code = "auth.last_admin"
    detail = Text(
        "'{name}'은(는) 마지막 관리자이므로 삭제하거나 권한을 낮추거나 비활성화할 수 없습니다.",
        "'{name}' is the last administrator and cannot be deleted, demoted or disabled.",
    )
    remedy = Text(
        "먼저 다른 사용자를 관리자로 지정하세요.", "Make another user an administrator first."
    )


class UserNotFound(NotFound):
    code = "auth.user_not_found"
    detail = Text("사용자 '{id}'을(를) 찾을 수 없습니다.", "There is no user '{id}'.")
    remedy = Text("사용자 목록에서 확인하세요.", "See the list of users.")


class TokenNotFound(NotFound):
    code = "auth.token_not_found"
    detail = Text("토큰 '{id}'을(를) 찾을 수 없습니다.", "There is no token '{id}'.")
    remedy = Text("토큰 목록에서 확인하세요.", "See the list of tokens.")


class TokenRoleTooHigh(Forbidden):
    code = "auth.token_role_too_high"
    detail = Text(
        "토큰의 역할 '{role}'이(가) 사용자의 역할 '{own}'보다 높습니다.",
        "The token's role '{role}' is above your own, '{own}'.",
    )
    remedy = Text("'{own}' 이하의 역할을 지정하세요.", "Ask for '{own}' or less.")


class NeedsSession(Forbidden):
    """A leaked token must not be able to make itself permanent or take over its owner."""

    code = "auth.needs_session"
    detail = Text(
        "이 작업은 로그인한 사용자만 할 수 있으며 토큰으로는 할 수 없습니다.",
        "Only a signed-in user may do this, a token may not.",
    )
    remedy = Text(
        "대시보드 또는 'haechi login'으로 로그인하세요.",
        "Sign in on the dashboard or with `haechi login`.",
    )


class ForeignOrigin(Forbidden):
    code = "auth.foreign_origin"
    detail = Text(
        "다른 사이트({origin})에서 보낸 요청이므로 거부했습니다.",
        "Refused: the request comes from another site ({origin}).",
    )
    remedy = Text(
        "대시보드 주소에서 직접 요청하거나 server.allowed_origins에 추가하세요.",
        "Use the dashboard's own address, or add the origin to server.allowed_origins.",
    )


class TokenOfAnotherDevice(Forbidden):
    code = "auth.token_of_another_device"
    detail = Text(
        "이 배포 토큰은 다른 장치에 발급되었거나 그 장치의 에이전트를 통해서만 쓸 수 있습니다.",
        "This deployment token belongs to another device, or is good only through its agent.",
    )
    remedy = Text(
        "AI를 그 장치에서 실행하세요. 토큰이 유출되었다면 배포를 다시 하세요.",
        "Run the AI on its device. If the token has leaked, deploy anew.",
    )


class EnrolmentRefused(Unauthorized):
    code = "auth.enrolment_refused"
    detail = Text(
        "등록 토큰을 사용할 수 없습니다 ({reason}).", "The enrolment token is not good ({reason})."
    )
    remedy = Text(
        "'haechi device enrol'로 새 토큰을 만드세요. 토큰은 1시간 동안 한 번만 쓸 수 있습니다.",
        "Make a new one with `haechi device enrol`: it works once, for one hour.",
    )


class BadCertificateRequest(Invalid):
    code = "auth.bad_certificate_request"
    detail = Text(
        "인증서 요청을 처리할 수 없습니다: {reason}", "The certificate request is no good: {reason}"
    )
    remedy = Text(
        "에이전트를 이 서버와 같은 버전으로 갱신하세요.",
        "Update the agent to the release of this server.",
    )


class CertificateRevoked(Unauthorized):
    code = "auth.certificate_revoked"
    detail = Text(
        "이 장치의 인증서는 취소되었거나 이 서버에 등록되어 있지 않습니다.",
        "This device's certificate was revoked or is unknown to this server.",
    )
    remedy = Text(
        "'haechi device enrol'로 장치를 다시 등록하세요.",
        "Enrol the device again with `haechi device enrol`.",
    )
