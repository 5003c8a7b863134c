import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from d2plan.errors import InputError, PlannerError
from d2plan.etp.chat import ChatPlanner
from d2plan.etp.exchange import check_address
from d2plan.etp.plan import write_plan
from d2plan.etp.server import ServerChat, ServerSettings
from tests.etp.test_reply import GOOD, REQUEST, write

KEY = "sk-secret-0123456789"


class Server:
    """A real server of the chat protocol that answers what a test scripts, the last entry for ever."""

    def __init__(self):
        self.script, self.asked, self.headers = [], [], []
        owner = self

        class Answers(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.asked.append(json.loads(body))
                owner.headers.append((self.path, dict(self.headers)))
                step = owner.script[min(len(owner.asked), len(owner.script)) - 1]
                step(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def planner(self, seconds=20.0, key=KEY):
        self.waits = []
        return ChatPlanner(ServerChat(ServerSettings(self.url, "llama", key, seconds), sleep=self.waits.append))


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def send(status, body, **headers):
    def step(request):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content)

    return step


def say(text, finish="stop", **message):
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return send(200, {"choices": [choice]})


def fail(status, told="no", **headers):
    return send(status, {"error": {"message": told}}, **headers)


def damage(text):
    """Answer with bytes among the words that are no UTF-8."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return send(200, json.dumps({"choices": [choice]}).encode().replace(b"running", b"running \xff\xfe"))


def test_a_well_formed_answer_becomes_a_plan(server):
    server.script = [say(GOOD)]
    plan = server.planner().plan(REQUEST)
    assert plan.beats[1].sub_prompts["Rex"] == "a photo of a <v1> dog running"
    assert plan.planner == "llama at 127.0.0.1 (planner-1)"
    asked, (path, headers) = server.asked[0], server.headers[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert asked["response_format"]["json_schema"]["schema"]["properties"]["beats"]
    assert json.loads(asked["messages"][-1]["content"])["story"] == REQUEST.story
    assert asked["temperature"] <= 0.2


def test_a_fenced_answer_is_read(server):
    server.script = [say(f"```json\n{GOOD}\n```")]
    assert len(server.planner().plan(REQUEST).beats) == 2
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (say("Sure! " + GOOD), "not exactly one JSON object"),
        (say(GOOD + "\n" + GOOD), "not exactly one JSON object"),
        (say(GOOD[:-20]), "not exactly one JSON object"),
        (say(GOOD[:200], finish="length"), "cut off"),
        (say(write(beats="two")), "beats: must be a list"),
        (damage(GOOD), "half a character"),
        (say(write(global_prompt="a photo of a man")), 'mentions "dog" 0 times'),
        (say(write(instances=[{"name": "Bella", "position": "none"}])), '"Bella", who is not known'),
    ],
    ids=["prose", "two objects", "truncated", "length", "types", "bytes", "class word", "unknown"],
)
def test_a_fault_is_fed_back_and_the_next_answer_taken(server, first, told):
    server.script = [first, say(GOOD)]
    assert len(server.planner().plan(REQUEST).beats) == 2
    assert len(server.asked) == 2
    turns = server.asked[1]["messages"]
    assert [turn["role"] for turn in turns[-2:]] == ["assistant", "user"]
    assert told in turns[-1]["content"]


def test_faults_are_fed_back_twice_at_most(server):
    server.script = [say("no JSON at all")]
    with pytest.raises(PlannerError, match="no plan that can be used in 3 attempts.*--planner grammar"):
        server.planner().plan(REQUEST)
    assert len(server.asked) == 3


def test_a_problem_that_the_model_sees_is_told_to_the_person(server):
    server.script = [say(write(problem="The story speaks of Bella, who is not known.", instances=[], beats=[]))]
    with pytest.raises(InputError, match="Bella, who is not known"):
        server.planner().plan(REQUEST)
    assert len(server.asked) == 1


def test_what_the_model_says_does_not_steer_the_terminal(server):
    server.script = [say(write(problem="No\n\x1b[2J \x1b]0;x\x07 " + "dogs " * 150))]
    with pytest.raises(InputError, match=r"cannot plan this story: No \[2J \]0;x dogs") as caught:
        server.planner().plan(REQUEST)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_a_server_without_schemas_is_asked_for_an_object_then_for_plain_text(server):
    server.script = [fail(400, "json_schema unsupported"), fail(400, "only json_schema or text"), say(GOOD), say(GOOD)]
    planner = server.planner()
    planner.plan(REQUEST)
    planner.plan(REQUEST)
    forms = [asked.get("response_format", {}).get("type") for asked in server.asked]
    assert forms == ["json_schema", "json_object", None, None]


def test_a_model_that_takes_no_temperature_or_old_limit_is_asked_without(server):
    server.script = [fail(400, "Unsupported parameter: max_tokens"), fail(400, "temperature must be 1"), say(GOOD)]
    server.planner().plan(REQUEST)
    assert "max_completion_tokens" in server.asked[2]
    assert "temperature" not in server.asked[2]
    assert "response_format" in server.asked[2]


def test_a_busy_server_is_asked_again_after_the_wait_that_it_names(server):
    server.script = [fail(429, Retry_After="3"), fail(503), say(GOOD)]
    planner = server.planner()
    planner.plan(REQUEST)
    assert len(server.asked) == 3
    assert 3 <= server.waits[0] <= 3.75
    assert 1 <= server.waits[1] <= 1.25


def test_waits_differ_so_that_many_who_were_refused_at_once_do_not_come_back_at_once(server):
    waits = set()
    for _ in range(3):
        server.script, server.asked = [fail(503), say(GOOD)], []
        server.planner().plan(REQUEST)
        waits |= set(server.waits)
    assert len(waits) > 1


def test_no_wait_goes_beyond_the_deadline(server):
    server.script = [fail(503)]
    with pytest.raises(PlannerError, match="busy or broken"):
        server.planner(seconds=0.4).plan(REQUEST)
    assert (len(server.asked), server.waits) == (1, [])


def test_a_server_that_stays_busy_is_asked_three_times_and_no_more(server):
    server.script = [fail(429, "slow down")]
    with pytest.raises(PlannerError, match=r"busy or broken \(status 429\) \(slow down\)"):
        server.planner().plan(REQUEST)
    assert len(server.asked) == 3


def test_a_wait_of_an_hour_is_the_persons_decision(server):
    server.script = [fail(429, Retry_After="3600")]
    with pytest.raises(PlannerError, match="try again later"):
        server.planner().plan(REQUEST)
    assert (len(server.asked), server.waits) == (1, [])


def drip(request):
    request.send_response(200)
    request.end_headers()
    try:
        for _ in range(200):
            request.wfile.write(b" ")
            request.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass


def drip_headers(request):
    try:
        for letter in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200:
            request.connection.sendall(bytes([letter]))
            time.sleep(0.05)
    except OSError:
        pass


@pytest.mark.parametrize(
    "step", [drip, drip_headers, lambda request: time.sleep(2)], ids=["body", "headers", "silence"]
)
def test_a_server_that_drips_or_is_silent_ends_at_the_deadline(server, step):
    server.script = [step]
    started = time.monotonic()
    with pytest.raises(PlannerError, match="did not answer in time"):
        server.planner(seconds=0.4).plan(REQUEST)
    assert time.monotonic() - started < 1.9
    assert len(server.asked) == 1


def hang_up(request):
    request.connection.shutdown(socket.SHUT_RDWR)


def break_off(request):
    request.send_response(200)
    request.send_header("Content-Length", "5000")
    request.end_headers()
    request.wfile.write(b'{"choices": ')
    request.wfile.flush()
    request.connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("step", [hang_up, break_off], ids=["at once", "in the body"])
def test_a_broken_connection_is_tried_again_twice(server, step):
    server.script = [step, step, say(GOOD)]
    assert server.planner().plan(REQUEST)
    server.script, server.asked = [step], []
    with pytest.raises(PlannerError, match="closed the connection"):
        server.planner().plan(REQUEST)
    assert len(server.asked) == 3


def test_a_redirect_is_never_followed(server):
    other = Server()
    other.script = [say(GOOD)]
    server.script = [send(307, b"", Location=other.url + "/chat/completions")]
    with pytest.raises(PlannerError, match="redirects to another address"):
        server.planner().plan(REQUEST)
    assert (len(server.asked), len(other.asked)) == (1, 0)
    other.http.shutdown()
    other.http.server_close()


def flood(request):
    request.send_response(200)
    request.end_headers()
    sent = 0
    try:
        while sent < 10 * 2**30:
            sent += request.wfile.write(b" " * 65536)
    except OSError:
        pass
    request.server.sent = sent


def claim(request):
    request.send_response(200)
    request.send_header("Content-Length", str(10 * 2**30))
    request.end_headers()
    request.wfile.write(b" " * 1000)


@pytest.mark.parametrize("step", [flood, claim], ids=["sent", "announced"])
def test_a_body_of_ten_gigabytes_is_left_unread(server, step):
    server.script = [step]
    with pytest.raises(PlannerError, match="more than 1000000 bytes"):
        server.planner().plan(REQUEST)
    assert len(server.asked) == 1
    if step is flood:
        for _ in range(100):
            if hasattr(server.http, "sent"):
                break
            time.sleep(0.02)
        assert server.http.sent < 64 * 2**20


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (fail(401, "bad key"), "D2PLAN_LLM_KEY"),
        (fail(404, "model 'llama' not found"), "check --llm-model"),
        (fail(402, "pay"), "status 402"),
        (send(200, b"<html>hello</html>"), "chat protocol"),
        (send(200, {"choices": []}), "chat protocol"),
        (send(200, b"\xff\xfe"), "chat protocol"),
        (send(200, b"[" * 100_000), "chat protocol"),
        (say(None), "gave no text"),
        (say(None, "tool_calls", tool_calls=[{"function": {"name": "sh", "arguments": "{}"}}]), "gave no text"),
        (say(None, refusal="I cannot help with that"), "I cannot help with that"),
        (say("", finish="content_filter"), "filtered"),
    ],
)
def test_what_another_try_cannot_mend_is_told_at_once(server, step, told):
    server.script = [step]
    with pytest.raises(PlannerError) as caught:
        server.planner().plan(REQUEST)
    assert told in str(caught.value)
    assert len(server.asked) == 1


def test_nobody_at_the_address_is_told_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(PlannerError, match="Nobody answers at 127.0.0.1"):
        ChatPlanner(ServerChat(ServerSettings(url, "llama"))).plan(REQUEST)


def test_the_key_is_in_no_plan_no_log_and_no_output(server, tmp_path, caplog, capfd):
    caplog.set_level(0)
    server.script = [fail(503), say("no JSON"), say(GOOD)]
    plan = server.planner().plan(REQUEST)
    told = capfd.readouterr()
    assert not any(KEY in text for text in (write_plan(plan, tmp_path), caplog.text, told.out, told.err))


def test_the_key_is_in_no_message_and_no_repr(server):
    server.script = [fail(401, f"the key {KEY} is wrong\x1b[31m")]
    planner = server.planner()
    with pytest.raises(PlannerError) as caught:
        planner.plan(REQUEST)
    assert "[key]" in str(caught.value)
    settings, address = planner.chat.settings, planner.chat.address
    shown = [str(caught.value), repr(caught.value), repr(settings), repr(address), planner.name]
    assert not any(KEY in text or "\x1b" in text for text in shown)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:11434", "ftp://host/v1", "http://", "http://user:pw@host/v1", "http://host/v1?key=1",
     "http://h ost/v1", "http://host:99999999/v1", "http://host/\nv1", "file:///etc/passwd", "http://[::1/v1"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(InputError, match="--llm-url"):
        check_address(url)


def test_a_key_travels_unencrypted_only_in_the_own_network():
    with pytest.raises(InputError, match="unencrypted"):
        check_address("http://example.org/v1", KEY)
    assert check_address("https://example.org/v1", KEY).port == 443
    for near in ("http://localhost:1/v1", "http://192.168.0.7/v1", "http://box.local/v1", "http://[::1]:8/v1"):
        assert check_address(near, KEY)
    with pytest.raises(InputError, match="D2PLAN_LLM_KEY") as caught:
        check_address("https://example.org/v1", "sk-\r\nX: y")
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://h/v1", "http://h/v1/", "http://h/v1/chat/completions"])
def test_the_address_may_be_given_whole(url):
    assert check_address(url).path == "/v1/chat/completions"


@pytest.mark.parametrize(("model", "seconds"), [("", 5.0), (" ", 5.0), ("llama", 0.0), ("llama", float("nan"))])
def test_settings_that_cannot_work_are_refused(model, seconds):
    with pytest.raises(InputError, match="--llm"):
        ServerChat(ServerSettings("http://localhost/v1", model, "", seconds))
