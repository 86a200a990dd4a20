"""What an operation's result says of single hosts, as its reader is told it."""

from haechi.core.operations.model import UnknownKind, result_texts

SAVED = {"code": "nobody.knows", "data": {"host": "edge-1"}}


def test_errors_of_single_hosts_are_told_wherever_they_are():
    result = {"hosts": {"dev-1": {"stage": "failed", "error": SAVED}}, "devices": [{"error": None}]}
    told = result_texts(result, "en")
    assert told["hosts"]["dev-1"] == {
        "stage": "failed",
        "error": {"code": "nobody.knows", "detail": "nobody.knows", "data": {"host": "edge-1"}},
    }
    assert told["devices"] == [{"error": None}]


def test_known_errors_have_detail_and_remedy_in_both_languages():
    saved = {"code": UnknownKind.code, "data": {"kind": "x"}}
    korean = result_texts([{"error": saved}], "ko")[0]["error"]
    english = result_texts([{"error": saved}], "en")[0]["error"]
    assert korean["detail"] != english["detail"]
    assert english["remedy"]


def test_what_is_no_saved_error_stays():
    result = {"error": "text", "data": {"code": "x", "data": {}}, "hosts": {"error": {"code": 1}}}
    assert result_texts(result, "ko") == result
