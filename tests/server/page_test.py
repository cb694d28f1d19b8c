"""GET /: what it is over plain HTTP, and what it does in a browser.

The classes named Page... always run; those named Browser... drive headless Chromium, when it is there, through the
WebDriver protocol (`scripts/setup browser` installs both). Without it they are skipped: exit code 77.
"""
import base64
import contextlib
import hashlib
import http.client
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import serving
from serving import WAIT_S, Case, ids_of, say, scripted, token

SOURCE = os.path.join(os.path.abspath(sys.argv[3]), "src", "server", "page.html")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def thought(reasoning, content, **more):
    return {"has": [token("<think>")], "answer": ids_of(reasoning) + [token("</think>")] + ids_of(content), **more}


def source():
    with open(SOURCE, "rb") as file:
        return file.read()


class Page(Case):
    def test_headers(self):
        with scripted(args=["--api-key", "one", "--host", "127.0.0.1"]) as s:
            answer = s.ask("GET", "/")
            self.assertEqual((answer.status, answer.body), (200, source()))
            head = answer.headers
            self.assertEqual(head["Content-Type"], "text/html; charset=utf-8")
            self.assertEqual(head["X-Content-Type-Options"], "nosniff")
            self.assertEqual(head["Referrer-Policy"], "no-referrer")
            self.assertEqual(head["Cache-Control"], "no-cache")
            self.assertEqual(s.ask("GET", "/v1/models").status, 401)
            self.assertEqual(s.ask("POST", "/", "{}").status, 401)

    def test_policy(self):
        with scripted() as s:
            answer = s.ask("GET", "/")
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        for name in ("default-src", "base-uri", "form-action", "frame-ancestors"):
            self.assertEqual(policy[name], "'none'")
        self.assertEqual(policy["connect-src"], "'self'")
        for name, what in (("script-src", b"script"), ("style-src", b"style")):
            parts = re.findall(b"<%s>(.*?)</%s>" % (what, what), answer.body, re.S)
            self.assertEqual(len(parts), 1)
            digest = base64.b64encode(hashlib.sha256(parts[0]).digest()).decode()
            self.assertEqual(policy[name], f"'sha256-{digest}'")

    def test_conditional(self):
        with scripted() as s:
            whole = s.ask("GET", "/")
            tag = whole.headers["ETag"]
            self.assertRegex(tag, '^"[0-9a-f]{32}"$')
            head = s.ask("HEAD", "/")
            self.assertEqual((head.status, head.body, head.headers["ETag"]), (200, b"", tag))
            self.assertEqual(int(head.headers["Content-Length"]), len(whole.body))
            for known in (tag, "W/" + tag, '"a,b", ' + tag, "*", '"x" , W/"y",' + tag):
                answer = s.ask("GET", "/", headers={"If-None-Match": known})
                self.assertEqual((answer.status, answer.body), (304, b""), known)
                self.assertEqual(answer.headers["ETag"], tag)
                self.assertIsNone(answer.headers["Content-Type"])
            for other in ('"x"', tag[:-1], tag[1:-1], 'W/"', '"', "W/", tag[:-2] + '"', "", "a b c"):
                self.assertEqual(s.ask("GET", "/", headers={"If-None-Match": other}).status, 200, other)

    def test_methods(self):
        with scripted() as s:
            self.refused(s.ask("POST", "/", "{}"), 405, "Method Not Allowed")
            self.refused(s.ask("GET", "//"), 404, "Not Found")
            self.assertEqual(s.ask("GET", "/?a=b").status, 200)

    def test_source(self):
        """One file, by hand: nothing from elsewhere, nothing that makes markup of text."""
        text = source().decode()
        self.assertLessEqual(text.count("\n"), 400)
        self.assertNotRegex(text, r"https?:|\bsrc=|@import|url\(")
        self.assertNotRegex(text, r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\son\w+=")


# --- a browser ----------------------------------------------------------------------------------------------------------

class Driver:
    """One chromedriver, and sessions of one window each."""

    def __init__(self):
        self.folder = tempfile.mkdtemp()
        self.log = os.path.join(self.folder, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([DRIVER, "--port=0"], stdout=log, stderr=log,
                                            env={**os.environ, "HOME": self.folder, "TMPDIR": self.folder})
        end = time.monotonic() + WAIT_S
        while True:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                text = log.read()
            found = re.search(r"started successfully on port (\d+)", text)
            if found:
                break
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(text)
            time.sleep(0.02)
        self.port = int(found.group(1))

    def close(self):
        self.process.terminate()
        self.process.wait(WAIT_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * WAIT_S)
        connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        value = json.loads(connection.getresponse().read())["value"]
        connection.close()
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(f"{path}: {value['error']}: {value['message'][:500]}")
        return value


class Window:
    ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

    def __init__(self, driver, url, width=1000, dark=False):
        self.driver = driver
        options = {"binary": CHROMIUM, "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                                                "--no-first-run", "--disable-background-networking"]}
        session = driver.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.path = "/session/" + session["sessionId"]
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=720, deviceScaleFactor=1, mobile=width < 600)
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("/url", url=url)

    def close(self):
        self.driver.call("DELETE", self.path)

    def call(self, path, **body):
        return self.driver.call("POST", self.path + path, body)

    def cdp(self, cmd, **params):
        return self.call("/goog/cdp/execute", cmd=cmd, params=params)

    def js(self, script, *args):
        return self.call("/execute/sync", script=script, args=list(args))

    def wait(self, script, *args, what=None):
        end = time.monotonic() + WAIT_S
        while not (value := self.js("return " + script, *args)):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {what or script}; the page shows: {self.js('return document.body.innerText')}")
            time.sleep(0.05)
        return value

    def find(self, selector):
        return self.call("/element", using="css selector", value=selector)[self.ELEMENT]

    def click(self, selector):
        self.call(f"/element/{self.find(selector)}/click")

    def type(self, selector, text):
        self.call(f"/element/{self.find(selector)}/value", text=text)

    def label(self, selector):
        """The name that a screen reader says."""
        return self.driver.call("GET", f"{self.path}/element/{self.find(selector)}/computedlabel")

    def picture(self, path):
        data = self.driver.call("GET", self.path + "/screenshot")
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def ask(self, text):
        self.type("#question", text + ENTER)

    def done(self):
        self.wait("document.querySelector('article.assistant:last-of-type')?.getAttribute('aria-busy') === 'false'")

    def answer(self):
        return self.js("return document.querySelector('article.assistant:last-of-type .content').innerText")

    def complaints(self):
        """Errors, warnings and broken policies since the last call."""
        return [e["message"] for e in self.call("/se/log", type="browser") if e["level"] in ("SEVERE", "WARNING")]


ENTER, SHIFT, RELEASE, ESCAPE = "\ue007", "\ue008", "\ue000", "\ue00c"


class Double(http.server.ThreadingHTTPServer):
    """The page with its real headers, beside answers that a test makes up, sent in pieces of chosen sizes."""

    def __init__(self, real):
        super().__init__(("127.0.0.1", 0), DoubleHandler)
        self.daemon_threads = True
        answer = real.ask("GET", "/")
        self.page = answer.body
        self.page_headers = {k: answer.headers[k] for k in ("Content-Type", "Content-Security-Policy")}
        self.bodies, self.keys = [], []
        self.status, self.pieces, self.cut, self.models = 200, [], None, 200


class DoubleHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):  # quiet
        pass

    def whole(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.keys.append(self.headers["Authorization"])
        if self.path == "/":
            self.whole(200, self.server.page, self.server.page_headers)
        elif self.server.models == 200:
            self.whole(200, b'{"data":[{"id":"<b>one</b>"},{"id":"two"}]}', {})
        else:
            self.whole(self.server.models, b'{"error":"Unauthorized"}', {})

    def do_POST(self):
        self.server.keys.append(self.headers["Authorization"])
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if self.server.status != 200:
            self.whole(self.server.status, b"".join(self.server.pieces), {})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in self.server.pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(0.001)
        if self.server.cut:
            self.server.cut.wait(WAIT_S)  # what comes together with the end of a connection may be lost with it
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")


def delta(**fields):
    return json.dumps({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}, ensure_ascii=False)


class BrowserCase(Case):
    """Every test ends with a silent console, or says what it expects there."""

    @classmethod
    def setUpClass(cls):
        cls.driver = Driver()
        cls.addClassCleanup(cls.driver.close)

    @contextlib.contextmanager
    def window(self, server, quiet=True, **options):
        port = server.port if isinstance(server, serving.Server) else server.server_address[1]
        w = Window(self.driver, f"http://127.0.0.1:{port}/", **options)
        try:
            w.wait("document.getElementById('model').options.length || !document.getElementById('notice').hidden")
            yield w
            if quiet:
                self.assertEqual(w.complaints(), [])
        finally:
            w.close()

    @contextlib.contextmanager
    def double(self, **options):
        with scripted() as real, Double(real) as d:
            threading.Thread(target=d.serve_forever, daemon=True).start()
            try:
                with self.window(d, **options) as w:
                    yield d, w
            finally:
                d.shutdown()


class BrowserChat(BrowserCase):
    def test_stream(self):
        with scripted(say("one two three four five six seven eight", hold=4)) as s, self.window(s) as w:
            self.assertEqual(w.js("return [...document.querySelectorAll('#model option')].map(o => o.value)"),
                             ["demo", "second"])
            w.type("#question", "first line" + SHIFT + ENTER + RELEASE + "second line")
            self.assertEqual(w.js("return document.getElementById('question').value"), "first line\nsecond line")
            self.assertEqual(w.js("return document.querySelectorAll('article').length"), 0)
            w.type("#question", ENTER)
            part = w.wait("document.querySelector('.content')?.innerText")
            self.assertTrue(w.js("return document.querySelector('article.assistant').getAttribute('aria-busy') === 'true'"))
            s.open_gate()
            w.wait("document.querySelector('.content').innerText.length > arguments[0]", len(part))
            w.done()
            self.assertEqual(w.answer(), "one two three four five six seven eight")
            self.assertEqual(w.js("return document.querySelector('article.user').innerText"), "first line\nsecond line")
            note = w.js("return document.querySelector('article.assistant .note').innerText")
            n = len(ids_of("one two three four five six seven eight")) + 1
            self.assertRegex(note, rf"^{n} tokens · \d+\.\d tokens/s · first after \d+\.\d\d s$")
            w.js("document.getElementById('max_tokens').value = 2")
            w.ask("again")
            w.wait("document.querySelectorAll('article.assistant').length === 2")
            w.done()
            self.assertIn("cut at the limit of tokens", w.js("return document.querySelector('main').innerText"))
            w.click("#new")
            self.assertEqual(w.js("return document.querySelectorAll('article').length"), 0)

    def test_stop(self):
        with scripted(say("word " * 50, hold=10)) as s, self.window(s) as w:
            for number, stop in enumerate((lambda: w.click("#stop"), lambda: w.type("#question", ESCAPE)), 1):
                w.ask("x")
                w.wait("document.querySelector('article.assistant:last-of-type .content')?.innerText.length > 20")
                self.assertEqual(s.metric("vllm:num_requests_running"), 1)
                stop()
                w.done()
                s.wait_metric(0, "vllm:num_requests_running")
                s.wait_metric(number, "vllm:request_success_total", finished_reason="abort")
                text = w.answer()
                self.assertRegex(text, "^(word )+")
                time.sleep(0.3)
                self.assertEqual(w.answer(), text)
                self.assertIn("stopped", w.js("return document.querySelector('article:last-of-type').innerText"))
            w.ask("x")
            s.wait_metric(1, "vllm:num_requests_running")
            w.click("#new")
            s.wait_metric(0, "vllm:num_requests_running")
            self.assertEqual(w.js("return [document.querySelectorAll('article').length, document.getElementById('send').hidden]"),
                             [0, False])

    def test_thinking(self):
        with scripted(thought("let me see", "the answer", hold=2), say("at once")) as s, self.window(s) as w:
            w.ask("x")
            w.done()
            self.assertEqual(w.answer(), "at once")
            self.assertTrue(w.js("return document.querySelector('article details').hidden"))
            w.click("#thinking")
            w.ask("x")
            w.wait("document.querySelector('article:last-of-type details')?.open", what="open while it thinks")
            s.open_gate()
            w.wait("document.querySelectorAll('article.assistant').length === 2")
            w.done()
            self.assertEqual(w.answer(), "the answer")
            seen = w.js("const d = document.querySelector('article:last-of-type details');"
                        "return [d.open, d.hidden, d.querySelector('.reasoning').textContent]")
            self.assertEqual(seen, [False, False, "let me see"])

    def test_markup_is_text(self):
        evil = "<img src=x onerror=alert(1)><script>alert(1)</script><b>x</b> &amp;"
        with scripted(say(evil)) as s, self.window(s) as w:
            w.ask(evil)
            w.done()
            self.assertEqual(w.answer(), evil)
            self.assertEqual(w.js("return document.querySelector('article.user').innerText"), evil)
            self.assertEqual(w.js("return document.querySelectorAll('main img, main script, main b').length"), 0)

    def test_code(self):
        text = "Look:\n```c\nint x = 1;\n\n  y();\n```\nand `this` ``\n````\n```\n````\nend"
        with scripted(say(text, delay_ms=2)) as s, self.window(s) as w:
            w.ask("x")
            w.done()
            self.assertEqual(w.js("return [...document.querySelector('.content').children].map(e => [e.tagName, e.textContent])"),
                             [["DIV", "Look:\n"], ["PRE", "int x = 1;\n\n  y();\n"], ["DIV", "and `this` ``\n"],
                              ["PRE", "```\n"], ["DIV", "end"]])

    def test_narrow(self):
        wide = "w" * 400 + "\n```\n" + "c" * 400 + "\n```\n"
        with scripted(thought("r" * 400, wide), args=["--served-model-name", "m" * 200]) as s:
            for dark in (False, True):
                with self.window(s, width=360, dark=dark) as w:
                    self.assertIn(200, w.js("return [...document.getElementById('model').options].map(o => o.value.length)"))
                    w.click("#thinking")
                    w.ask("q" * 400)
                    w.done()
                    w.js("document.querySelectorAll('details').forEach(d => d.open = true)")
                    self.assertEqual(w.js("return [innerWidth, document.documentElement.scrollWidth, "
                                          "document.querySelector('main').scrollWidth]"), [360, 360, 360])
                    pre = w.js("const p = document.querySelector('pre'); return [p.scrollWidth > p.clientWidth, p.clientWidth]")
                    self.assertTrue(pre[0] and pre[1] <= 360, pre)
                    self.assertTrue(w.js("const b = document.getElementById('send').getBoundingClientRect();"
                                         "return b.right <= 360 && b.bottom <= innerHeight"))
                    back = re.findall(r"\d+", w.js("return getComputedStyle(document.body).backgroundColor"))
                    self.assertEqual(sum(map(int, back)) < 200, dark)
                    if os.environ.get("FATHOM_PICTURES"):
                        w.picture(os.path.join(os.environ["FATHOM_PICTURES"], f"narrow-{'dark' if dark else 'light'}.png"))

    def test_labels(self):
        with scripted() as s, self.window(s) as w:
            w.js("document.getElementById('settings').open = true")
            for selector in ("#model", "#system", "#temperature", "#max_tokens", "#key", "#question", "#thinking", "#send",
                             "#new", "#log"):
                self.assertNotEqual(w.label(selector), "", selector)
            self.assertEqual(w.js("return document.activeElement.id"), "question")

    def test_policy_holds(self):
        """What the silent console of the other tests rests on: a breach is seen."""
        with scripted() as s, self.window(s, quiet=False) as w:
            with self.assertRaises(RuntimeError):
                w.js("document.body.innerHTML = '<b>x</b>'")
            w.js("const e = document.createElement('img'); e.src = '/health'; document.body.append(e)")
            end = time.monotonic() + WAIT_S
            while not any("Content Security Policy" in c for c in w.complaints()):
                self.assertLess(time.monotonic(), end)


class BrowserKeys(BrowserCase):
    def test_key(self):
        with scripted(say("yes"), args=["--api-key", "one", "--host", "127.0.0.1"]) as s, self.window(s, quiet=False) as w:
            self.assertIn("API key", w.js("return document.getElementById('notice').innerText"))
            self.assertTrue(w.js("return document.getElementById('settings').open"))
            w.type("#key", "one\t")
            w.wait("document.getElementById('model').value === 'demo'")
            self.assertTrue(w.js("return document.getElementById('notice').hidden"))
            w.call("/refresh")
            w.wait("document.getElementById('model').value === 'demo'")
            self.assertEqual(w.js("return [sessionStorage.getItem('key'), sessionStorage.length, localStorage.length]"), ["one", 1, 0])
            w.ask("x")
            w.done()
            self.assertEqual(w.answer(), "yes")
            self.assertTrue(all("401" in c for c in w.complaints()))

    def test_refused(self):
        with scripted(say("yes"), max_model_len=20) as s, self.window(s, quiet=False) as w:
            w.ask("many words " * 20)
            w.done()
            shown = w.js("return document.querySelector('article.assistant').innerText")
            self.assertIn("The server refused (400): ", shown)
            self.assertIn("maximum context length", shown)
            self.assertTrue(w.js("return document.getElementById('question').value").startswith("many words"))

    def test_server_is_gone(self):
        with scripted(say("word " * 50, hold=10)) as s, self.window(s, quiet=False) as w:
            w.ask("x")
            w.wait("document.querySelector('.content')?.innerText.length > 20")
            s.process.kill()
            w.done()
            self.assertRegex(w.js("return document.querySelector('article:last-of-type').innerText"),
                             r"^word [^$]*The connection ended before the answer was complete\.")
            w.ask("x")
            w.wait("document.querySelectorAll('article.assistant').length === 2")
            w.done()
            self.assertIn("The server cannot be reached.", w.js("return document.querySelector('article:last-of-type').innerText"))
            s.process.wait(WAIT_S)
            s.stop = lambda: 0  # it was to end so


class BrowserStreams(BrowserCase):
    TEXT = "naïve 漢字 🙂\nsecond"

    def stream(self, end):
        lines = [": comment", "", "event: x", "data: " + delta(role="assistant", content=""), "", "data:" + delta(content="naïve 漢"),
                 "", "data: " + delta(content="字 🙂\n")[:12], "data: " + delta(content="字 🙂\n")[12:], "", "", "id: 1", "",
                 "data: " + delta(content="second"), "", "data: [DONE]", "", ""]
        return end.join(lines).encode()

    def test_cuts(self):
        """Whatever the line ends and wherever the bytes are cut, the text is the same."""
        with self.double() as (d, w):
            asked = 0
            for end in ("\n", "\r\n", "\r"):
                data = self.stream(end)
                for size in (1, 2, 3, 7, len(data)):
                    with self.subTest(end=end, size=size):
                        d.pieces = [data[i:i + size] for i in range(0, len(data), size)]
                        asked += 1
                        w.ask("x")
                        w.wait(f"document.querySelectorAll('article.assistant').length === {asked}")
                        w.done()
                        self.assertEqual(w.answer(), self.TEXT)
                        self.assertEqual(w.js("return document.querySelectorAll('article .bad').length"), 0)

    def test_request(self):
        with self.double() as (d, w):
            d.pieces = [self.stream("\n")]
            w.ask("first")
            w.done()
            self.assertEqual(d.bodies[-1], {"messages": [{"role": "user", "content": "first"}], "stream": True,
                                            "stream_options": {"include_usage": True}, "model": "<b>one</b>",
                                            "chat_template_kwargs": {"thinking": False}})
            w.click("#settings summary")
            for name, text in (("system", "Be brief."), ("temperature", "0.5"), ("max_tokens", "20"), ("key", "sesame\t")):
                w.type("#" + name, text)
            w.wait("document.getElementById('model').options.length === 2")
            w.js("document.getElementById('model').value = 'two'")
            w.click("#thinking")
            w.ask("next")
            w.wait("document.querySelectorAll('article.assistant').length === 2")
            w.done()
            body = d.bodies[-1]
            self.assertEqual(body["messages"], [
                {"role": "system", "content": "Be brief."}, {"role": "user", "content": "first"},
                {"role": "assistant", "content": self.TEXT}, {"role": "user", "content": "next"}])
            self.assertEqual((body["model"], body["temperature"], body["max_tokens"]), ("two", 0.5, 20))
            self.assertEqual(body["chat_template_kwargs"], {"thinking": True})
            self.assertEqual(d.keys[-1], "Bearer sesame")
            w.js("document.getElementById('temperature').value = 7")
            asked = len(d.bodies)
            w.ask("refused by the field")
            self.assertEqual(w.js("return document.querySelectorAll('article.assistant').length"), 2)
            w.js("document.getElementById('temperature').value = ''")
            w.click("#new")
            w.ask("")
            w.wait("document.querySelectorAll('article.assistant').length === 1")
            w.done()
            self.assertEqual(len(d.bodies), asked + 1)
            self.assertEqual([m["content"] for m in d.bodies[-1]["messages"]], ["Be brief.", "refused by the field"])

    def test_failures(self):
        first = ("data: " + delta(content="some text") + "\n\n").encode()
        failed = json.dumps({"error": {"message": "the disk is on fire", "code": 500}})
        cases = [
            (200, [first, b"data: " + failed.encode() + b"\n\n"], False, "The server failed: the disk is on fire", True),
            (200, [first], False, "The connection ended before the answer was complete.", True),
            (200, [first], True, "The connection ended before the answer was complete.", True),
            (502, [b"<h1>Bad\nGateway</h1>"], False, "The server refused (502): <h1>Bad Gateway</h1>", False),
            (503, [], False, "The server refused (503): Service Unavailable", False),
            (401, [b'{"error":"Unauthorized"}'], False, "The server asks for an API key", False),
            (429, [failed.encode()], False, "The server refused (429): the disk is on fire", False),
        ]
        with self.double(quiet=False) as (d, w):
            for status, pieces, cut, says, partial in cases:
                with self.subTest(says=says, cut=cut):
                    d.status, d.pieces, d.cut = status, pieces, threading.Event() if cut else None
                    w.click("#new")
                    w.js("document.getElementById('question').value = ''")
                    w.ask("x")
                    w.wait("document.querySelector('article.assistant')")
                    if cut:
                        w.wait("document.querySelector('article.assistant .content').innerText")
                        d.cut.set()
                    w.done()
                    self.assertIn(says, w.js("return document.querySelector('article [role=alert]').innerText"))
                    self.assertEqual(w.answer(), "some text" if partial else "")
                    self.assertEqual(w.js("return document.getElementById('question').value"), "" if partial else "x")
            self.assertFalse(any("Content Security Policy" in c for c in w.complaints()))


if __name__ == "__main__":
    if not (CHROMIUM and DRIVER) and any(name.startswith("Browser") for name in sys.argv[4:]):
        print("skipped: no chromium or chromedriver here; scripts/setup browser installs them")
        sys.exit(77)
    if not (CHROMIUM and DRIVER):
        BrowserCase = unittest.skip("no chromium or chromedriver")(BrowserCase)
    serving.main()
