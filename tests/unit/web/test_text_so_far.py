"""Logs over HTTP while somebody writes to them."""

from haechi.rest import text_so_far


async def sent(response, on_start):
    """Its headers and body; `on_start` happens between them."""
    messages = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        if message["type"] == "http.response.start":
            on_start()
        messages.append(message)

    scope = {"type": "http", "method": "GET", "headers": [], "asgi": {"spec_version": "2.4"}}
    await response(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return dict(messages[0]["headers"]), body


async def test_a_log_that_grows_while_it_is_sent_is_sent(tmp_path):
    log = tmp_path / "log"
    log.write_text("begun\n")

    def grow():
        with log.open("a") as file:
            file.write("a line more\n")

    headers, body = await sent(text_so_far(log), grow)
    assert int(headers.get(b"content-length", len(body))) == len(body)
    assert body.startswith(b"begun\n")


async def test_a_log_that_is_not_there_yet_is_empty(tmp_path):
    _, body = await sent(text_so_far(tmp_path / "log"), lambda: None)
    assert body == b""
