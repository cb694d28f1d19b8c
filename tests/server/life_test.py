"""fathom serve as a process: its flags, its start, its end."""
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile

import serving
from serving import FATHOM, JSON, WAIT_S, Case, say, scripted, scripted_model


class Flags(Case):
    def fails(self, says, *args, code=2):
        p = subprocess.run([FATHOM, "serve", *args], capture_output=True, timeout=WAIT_S, check=False)
        self.assertEqual(p.returncode, code, p.stderr)
        self.assertIn(says, p.stderr.decode())

    def test_refused(self):
        for words, says in ((["m", "--speculative-config", "{}"], "--speculative-config: not supported: speculative"),
                            (["m", "-tp", "2"], "--tensor-parallel-size"), (["--model", "/nowhere", "--api-key-scope", "x"], "all|v1"),
                            (["m", "--tool_call_parser", "hermes"], "deepseek_v31|deepseek_v3|kimi_k2"), (["m", "--headless"], "several hosts"),
                            (["m", "--tensor-parallel-size", "2"], "found '2', expected 1"),
                            (["m", "--kv-cache-dtype", "fp8"], "expected auto|bfloat16"),
                            (["m", "--nothing"], "unknown option"), ([], "found 0 arguments"),
                            (["m", "--port", "70000"], "--port"), (["m", "--max-num-seqs", "0"], "--max-num-seqs")):
            self.fails(says, *words)

    def test_failures(self):
        for words, says in ((["/nowhere"], "/nowhere"), ([serving.DEMO, "--api-key", ""], "--api-key: found an empty"),
                            ([serving.DEMO, "--allowed-origins", "x"], "--allowed-origins"),
                            ([serving.DEMO, "--allowed-origins", "[5]"], "expected strings"),
                            ([serving.DEMO, "--override-generation-config", "[]"], "expected an object"),
                            ([serving.DEMO, "--override-generation-config", '{"top_p": 5}'], "top_p"),
                            ([serving.DEMO, "--override-generation-config", '{"temprature": 0.1}'], "unknown key 'temprature'"),
                            ([serving.DEMO, "--gpu-memory-utilization", "1e-9"], "(--gpu-memory-utilization)"),
                            ([serving.DEMO, "--uds", "/x", "--host", "::1"], "--uds"),
                            ([serving.DEMO, "--ssl-keyfile", "x"], "--ssl-certfile"),
                            ([serving.DEMO, "--ssl-certfile", "/nowhere"], "/nowhere"),
                            ([serving.DEMO, "--quantization", "ascend"], "has no quant_model_description*.json"),
                            ([serving.DEMO, "--chat-template", "/nowhere"], "/nowhere"),
                            ([serving.DEMO, "--generation-config", "/nowhere"], "/nowhere")):
            self.fails(says, *words, code=1)

    def test_accepted(self):
        with scripted(say("x"), args=["--trust_remote_code", "--enforce-eager", "--dtype=bfloat16", "--seed", "5",
                                      "--no-enable-expert-parallel", "--gpu-memory-utilization", "0.9"]) as s:
            for flag in ("trust-remote-code", "enforce-eager", "dtype", "seed", "enable-expert-parallel"):
                self.assertIn(f"--{flag} changes nothing: ", s.text())

    def test_config(self):
        with tempfile.TemporaryDirectory() as folder, scripted_model([say("word " * 9)]) as model:
            path = os.path.join(folder, "serve.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"model: {model}\nserved_model_name: [one, two]\nmax-model-len: 64\napi-key: [hidden-key]\n"
                           "override-generation-config:\n  max_new_tokens: 3\nenable_prefix_caching: false\n")
            s = serving.Server(serving.SCRIPTED, model, ["--config", path, "--max-model-len", "32"])
            key = {"Authorization": "Bearer hidden-key"}
            models = s.ask("GET", "/v1/models", headers=key).json["data"]
            self.assertEqual([m["id"] for m in models], ["one", "two"])
            self.assertEqual(s.ask("GET", "/v1/models").status, 401)
            chat = s.chat(_headers=key)
            self.assertEqual(chat.json["usage"]["completion_tokens"], 3)
            self.assertEqual(s.stop(), 0)
            self.assertIn("non-default args: {'model': '" + model, s.text())
            for said in ("'max_model_len': 32",  # the command line wins
                         "'api_key': '***'", "'enable_prefix_caching': False", "'max_new_tokens': 3",
                         "'served_model_name': ['one', 'two']"):
                self.assertIn(said.replace("'max_new_tokens': 3", '{"max_new_tokens":3}'), s.text())
            self.assertNotIn("hidden-key", s.text())
            s.log.close()
            with open(path, "a", encoding="utf-8") as file:
                file.write("no_such_option: 1\n")
            self.fails(f"{path}:8: unknown option --no-such-option", "--config", path)

    def test_taken_port(self):
        with scripted(say("x")) as s, scripted_model([]) as model:
            p = subprocess.run([serving.SCRIPTED, "serve", model, "--port", str(s.port)], capture_output=True, timeout=WAIT_S,
                               check=False)
            self.assertEqual(p.returncode, 1)
            self.assertIn("Address already in use", p.stderr.decode())

    def test_loopback_without_a_key(self):
        with scripted(say("x")) as s:
            self.assertIn("http://127.0.0.1:", s.text())
        with scripted(say("x"), args=["--api-key", "k"]) as s:
            self.assertIn("http://0.0.0.0:", s.text())

    def test_open_to_others(self):
        """Whoever opens the server to others without a key reads so."""
        for host, args, warns in (("0.0.0.0", [], True), ("0.0.0.0", ["--api-key", "k"], False), ("127.0.0.2", [], False),
                                  ("localhost", [], False)):
            with self.subTest(host=host, args=args), scripted(say("x"), args=["--host", host, *args]) as s:
                self.assertEqual(f"warn server: --host {host} without --api-key" in s.text(), warns, s.text())


class Defaults(Case):
    def temperature(self, *args):
        with scripted(say("x"), args=["--enable-log-requests", *args]) as s:
            s.complete("x")
            return s.text().split("temperature ")[1].split(",")[0]

    def test_sampling(self):
        self.assertEqual(self.temperature(), "0.6")  # generation_config.json of the model
        self.assertEqual(self.temperature("--generation-config", "vllm"), "1")
        self.assertEqual(self.temperature("--override-generation-config", '{"temperature": 0.3}'), "0.3")
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "generation_config.json"), "w", encoding="utf-8") as file:
                json.dump({"temperature": 0.4}, file)
            self.assertEqual(self.temperature("--generation-config", folder), "0.4")


class Sockets(Case):
    def test_unix(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "s")
            with scripted(say("x"), args=["--uds", path]) as s:
                self.assertIn("unix:" + path, s.text())
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(path)
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                self.assertTrue(sock.recv(100).startswith(b"HTTP/1.1 200 OK"))
                sock.close()


class Tls(Case):
    def test_https(self):
        if not shutil.which("openssl"):
            self.skipTest("no openssl program to make a certificate with")
        with tempfile.TemporaryDirectory() as folder:
            key, cert = os.path.join(folder, "key"), os.path.join(folder, "cert")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days",
                            "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True,
                           capture_output=True)
            with scripted(say("one two"), args=["--ssl-keyfile", key, "--ssl-certfile", cert]) as s:
                self.assertIn("https://", s.text())
                trust = ssl.create_default_context(cafile=cert)
                connection = http.client.HTTPSConnection("127.0.0.1", s.port, context=trust, timeout=WAIT_S)
                connection.request("POST", "/v1/completions", '{"prompt":"x"}', JSON)
                self.assertEqual(json.loads(connection.getresponse().read())["choices"][0]["text"], "one two")
                connection.close()


class End(Case):
    BODY = json.dumps({"prompt": "x", "max_tokens": 40, "ignore_eos": True})

    def ask(self, s):
        connection = s.connect()
        connection.request("POST", "/v1/completions", self.BODY, JSON)
        s.wait_metric(1, "vllm:num_requests_running")
        return connection

    def test_drain(self):
        with scripted(say("word ", hold=5)) as s:
            connection = self.ask(s)
            s.process.send_signal(signal.SIGTERM)
            s.wait_text("Shutting down: 1 requests in flight")
            s.open_gate()
            response = connection.getresponse()
            self.assertEqual(response.status, 200)
            self.assertEqual(json.loads(response.read())["usage"]["completion_tokens"], 40)
            self.assertEqual(s.wait(), 0)

    def test_drain_under_load(self):
        """Streams, whole answers and bodies that are still read: all are finished, then the process ends."""
        with scripted(say("word ", hold=5), args=["--enable-server-load-tracking"]) as s:
            chat = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 60, "ignore_eos": True}
            asked = []
            for i in range(40):
                asked.append(s.connect())
                body = {**chat, "stream": i % 2 == 0, "pad": " " * (100000 if i % 5 == 0 else 0)}
                asked[i].request("POST", "/v1/chat/completions", json.dumps(body), JSON)
            s.wait_load(40)
            s.process.send_signal(signal.SIGTERM)
            s.wait_text("Shutting down: 40 requests in flight")
            s.open_gate()
            for i, connection in enumerate(asked):
                response = connection.getresponse()
                data = response.read()
                self.assertEqual(response.status, 200)
                if i % 2 == 0:
                    self.assertTrue(data.endswith(b"data: [DONE]\n\n"), data[-100:])
                else:
                    self.assertEqual(json.loads(data)["usage"]["completion_tokens"], 60)
                connection.close()
            self.assertEqual(s.wait(), 0)

    def test_second_signal(self):
        with scripted(say("word ", hold=5)) as s:
            connection = self.ask(s)
            s.process.send_signal(signal.SIGTERM)
            s.wait_text("Shutting down: 1 requests in flight")
            self.assertIsNone(s.process.poll())
            s.process.send_signal(signal.SIGINT)
            self.assertEqual(s.wait(), 0)
            connection.close()

    def test_late_signal(self):
        """Signals until the end do not change how it ends."""
        with scripted(say("x")) as s:
            s.process.send_signal(signal.SIGTERM)
            while s.process.poll() is None:
                s.process.send_signal(signal.SIGTERM)
            self.assertEqual(s.wait(), 0)

    def test_timeout(self):
        with scripted(say("word ", hold=5), args=["--shutdown-timeout", "0.3"]) as s:
            connection = self.ask(s)
            s.process.send_signal(signal.SIGTERM)
            self.assertEqual(s.wait(), 0)
            connection.close()

    def test_idle(self):
        """A connection that only stays open is not waited for."""
        with scripted(say("x")) as s:
            connection = s.connect()
            connection.request("GET", "/health")
            connection.getresponse().read()
            self.assertEqual(s.stop(), 0)
            self.assertIn("Shutting down: 0 requests in flight", s.text())
            connection.close()

    def test_half_requests(self):
        """Who has not sent all of a request is refused, not waited for."""
        with scripted(say("x")) as s:
            socks = []
            for part in (b"POST /v1/completions HT", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                         b"Expect: 100-continue\r\nContent-Length: 50\r\n\r\n"):
                socks.append(socket.create_connection(("127.0.0.1", s.port), WAIT_S))
                socks[-1].sendall(part)
            self.assertIn(b" 100 ", socks[1].recv(100))
            s.process.send_signal(signal.SIGTERM)
            for sock in socks:
                self.assertTrue(sock.recv(100).startswith(b"HTTP/1.1 503 "))
            self.assertEqual(s.wait(), 0)  # they do not close: they get two seconds
            for sock in socks:
                sock.close()


if __name__ == "__main__":
    serving.main()
