"""A running server for the tests of this folder, and a plain HTTP client. Standard library only.

meson passes the program on the scripted engine, the real program, and the source folder.
"""
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SCRIPTED = os.path.abspath(sys.argv[1])
FATHOM = os.path.abspath(sys.argv[2])
DEMO = os.path.join(os.path.abspath(sys.argv[3]), "models", "demo")
EOS = 1
JSON = {"Content-Type": "application/json"}
WAIT_S = 120  # whatever is waited for: nothing here may depend on how fast or busy a machine is


def ids_of(text):
    """Token ids of text in the demo model's vocabulary."""
    out = subprocess.run([FATHOM, "tokenize", DEMO], input=text.encode(), capture_output=True, check=True).stdout
    return [int(word) for word in out.split()]


def token(name):
    """Id of a token by its spelling."""
    with open(os.path.join(DEMO, "tokenizer.json"), encoding="utf-8") as file:
        data = json.load(file)
    for added in data["added_tokens"]:
        if added["content"] == name:
            return added["id"]
    return data["model"]["vocab"][name]


def say(text, **more):
    """A rule: whatever is asked, this is answered."""
    return {"answer": ids_of(text), **more}


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def events(self):
        """The JSON of each event of a stream; the last must be [DONE]."""
        events = [e[len("data: "):] for e in self.body.decode().split("\n\n") if e.startswith("data: ")]
        assert events[-1] == "[DONE]", events[-1]
        return [json.loads(e) for e in events[:-1]]


def wait_for(what, says):
    """Until what() is true; says() is the complaint. Returns what it was."""
    end = time.monotonic() + WAIT_S
    while not (value := what()):
        if time.monotonic() > end:
            raise AssertionError(says())
        time.sleep(0.01)
    return value


class Server:
    def __init__(self, program, model, args, env=None):
        self.model = model
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([program, "serve", model, "--port", "0", "--threads", "1", "--no-pin",
                                         "--keep-alive-timeout", "3600", "--shutdown-timeout", "3600", *args],
                                        stdout=subprocess.DEVNULL, stderr=self.log, env={**os.environ, **(env or {})})
        self.port = None
        try:
            self.wait_text("Application startup complete.")
        except AssertionError:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(self.text()) from None
        found = re.search(r"://[^ ]*:(\d+)", self.text())
        self.port = int(found.group(1)) if found else None

    def text(self):
        """The log so far. The program writes through the same file position, which must not move."""
        return os.pread(self.log.fileno(), 1 << 26, 0).decode(errors="replace")

    def wait_text(self, text):
        """Until the log says so; not when the process has ended."""
        wait_for(lambda: text in self.text() or self.process.poll() is not None, lambda: self.text()[-4000:])
        if text not in self.text():
            raise AssertionError(self.text()[-4000:])

    def wait_held(self):
        """Until a text of the scripted engine's waits at the gate."""
        path = os.path.join(self.model, "held")
        wait_for(lambda: os.path.exists(path), lambda: path + " is not there")

    def open_gate(self):
        """What the scripted engine holds goes on."""
        with open(os.path.join(self.model, "gate"), "wb"):
            pass

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)

    def ask(self, method, path, body=None, headers=None):
        connection = self.connect()
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        connection.request(method, path, body, {**(JSON if body is not None else {}), **(headers or {})})
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    def post(self, path, _headers=None, **body):
        return self.ask("POST", path, body, _headers)

    def complete(self, prompt="hi", **body):
        return self.post("/v1/completions", prompt=prompt, **body)

    def chat(self, text="hi", **body):
        return self.post("/v1/chat/completions", **{"messages": [{"role": "user", "content": text}], **body})

    def metric(self, name, **labels):
        for line in self.ask("GET", "/metrics").body.decode().splitlines():
            if line.startswith((name + "{", name + " ")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                return float(line.rsplit(" ", 1)[1])
        raise KeyError(name)

    def wait_metric(self, want, name, **labels):
        wait_for(lambda: self.metric(name, **labels) == want,
                 lambda: f"{name} {labels} is {self.metric(name, **labels)}, expected {want}")

    def wait_load(self, want):
        """With --enable-server-load-tracking."""
        def load():
            return self.ask("GET", "/load").json["server_load"]
        wait_for(lambda: load() == want, lambda: f"server_load is {load()}, expected {want}")

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self):
        """The exit code of a process that is about to end."""
        try:
            return self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@contextlib.contextmanager
def scripted_model(rules, **script):
    with tempfile.TemporaryDirectory() as model:
        for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(DEMO, name), model)
        with open(os.path.join(model, "script.json"), "w", encoding="utf-8") as file:
            json.dump({"rules": rules, **script}, file)
        yield model


@contextlib.contextmanager
def scripted(*rules, args=(), env=None, **script):
    """A server that answers by rules (scripted_engine.c); it must end well."""
    with scripted_model(list(rules), **script) as model:
        server = Server(SCRIPTED, model, ["--served-model-name", "demo", "second", *args], env)
        with server.log:
            try:
                yield server
            finally:
                server.open_gate()
                code = server.stop()
                assert code == 0, f"the server ended with {code}\n{server.text()[-4000:]}"


@contextlib.contextmanager
def real(*args, model=DEMO):
    server = Server(FATHOM, model, ["--max-num-seqs", "8", *args])
    with server.log:
        try:
            yield server
        finally:
            code = server.stop()
            assert code == 0, f"the server ended with {code}\n{server.text()[-4000:]}"


class Case(unittest.TestCase):
    maxDiff = 4000

    def refused(self, answer, status, says, param=None, kind=None):
        self.assertEqual(answer.status, status, answer.body[:1000])
        error = answer.json["error"]
        self.assertEqual(sorted(error), ["code", "message", "param", "type"])
        self.assertEqual(error["code"], status)
        self.assertIn(says, error["message"])
        self.assertEqual(error["param"], param)
        if kind:
            self.assertEqual(error["type"], kind)


def main():
    unittest.main(module="__main__", argv=sys.argv[:1] + sys.argv[4:])
