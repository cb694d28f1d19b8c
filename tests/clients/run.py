"""Runs real clients, unmodified, against `fathom serve models/demo` on a free loopback port.

Usage: run.py FATHOM [openai|anthropic|lm-eval|locust ...]      default: all
Needs network the first time: requirements.txt is installed into a virtual environment of its own (build-clients/).
"""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DEMO = os.path.join(ROOT, "models", "demo")
VENV = os.path.join(ROOT, "build-clients")
PYTHON = os.path.join(VENV, "bin", "python")
KEY = "clients-key"


def install():
    """The virtual environment, made again whenever requirements.txt changes."""
    with open(os.path.join(HERE, "requirements.txt"), encoding="utf-8") as file:
        wanted = file.read()
    stamp = os.path.join(VENV, "installed.txt")
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as file:
            if file.read() == wanted:
                return
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r",
                    os.path.join(HERE, "requirements.txt")], check=True)
    with open(stamp, "w", encoding="utf-8") as file:
        file.write(wanted)


class Server:
    def __init__(self, fathom, folder):
        self.path = os.path.join(folder, "server.log")
        with open(self.path, "wb") as log:
            self.process = subprocess.Popen(
                [fathom, "serve", DEMO, "--host", "127.0.0.1", "--port", "0", "--api-key", KEY, "--served-model-name", "demo",
                 "--no-pin", "--max-num-seqs", "16", "--enable-tokenizer-info-endpoint", "--disable-uvicorn-access-log"],
                stderr=log)
        end = time.monotonic() + 120
        while "Application startup complete." not in self.text():
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(self.text())
            time.sleep(0.05)
        self.url = "http://127.0.0.1:" + re.search(r"://[^ ]*:(\d+)", self.text()).group(1)

    def text(self):
        with open(self.path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def metric(self, name):
        request = urllib.request.Request(self.url + "/metrics", headers={"Authorization": "Bearer " + KEY})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return float(re.search("^" + name + r"\{.*\} (.*)$", answer.read().decode(), re.M).group(1))

    def idle(self):
        """Nothing of what the clients began is left."""
        names = ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"]
        end = time.monotonic() + 30
        while any(self.metric(name) for name in names):
            if time.monotonic() > end:
                return [f"{name} stays {self.metric(name)}" for name in names if self.metric(name)]
            time.sleep(0.1)
        return []

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def environment(folder):
    return {**os.environ, "OPENAI_API_KEY": KEY, "HF_HOME": folder, "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def with_openai(server, env, _):
    return subprocess.run([PYTHON, os.path.join(HERE, "openai_client.py"), server.url + "/v1", KEY], env=env, check=False).returncode


def with_anthropic(server, env, _):
    return subprocess.run([PYTHON, os.path.join(HERE, "anthropic_client.py"), server.url, KEY], env=env, check=False).returncode


def lm_eval(server, env, folder, model, path, task, *more):
    """Results of one task; lm-eval reads tokens and template over HTTP, so that it needs no tokenizer of its own."""
    out = os.path.join(folder, model + task)
    extra = ",tokenized_requests=True,tokenizer_backend=remote" if model == "local-completions" else ""
    command = [PYTHON, "-m", "lm_eval", "run", "--model", model, "--tasks", task, "--include_path", ".", "--output_path", out,
               "--model_args", f"base_url={server.url}{path},model=demo,num_concurrent=4,max_retries=1,auth_token={KEY}{extra}", *more]
    code = subprocess.run(command, env=env, cwd=os.path.join(HERE, "task"), check=False).returncode
    if code:
        raise RuntimeError(f"lm-eval {model} {task} ended with {code}")
    for at, _, names in os.walk(out):
        for name in names:
            with open(os.path.join(at, name), encoding="utf-8") as file:
                return json.load(file)["results"][task]
    raise RuntimeError("lm-eval wrote no results")


def with_lm_eval(server, env, folder):
    """The model knows these sentences, so the wrong ends are the less likely ones."""
    try:
        choice = lm_eval(server, env, folder, "local-completions", "/v1/completions", "fathom_choice")
        text = lm_eval(server, env, folder, "local-completions", "/v1/completions", "fathom_text")
        chat = lm_eval(server, env, folder, "local-chat-completions", "/v1/chat/completions", "fathom_text",
                       "--apply_chat_template")
    except RuntimeError as e:
        print(e)
        return 1
    print("lm-eval:", choice, text, chat)
    return int(choice["acc,none"] != 1.0)


def with_locust(server, env, _):
    return subprocess.run([PYTHON, "-m", "locust", "-f", os.path.join(HERE, "load_client.py"), "--headless", "--users", "12",
                           "--spawn-rate", "12", "--run-time", "20s", "--stop-timeout", "60", "--only-summary",
                           "--host", server.url], env=env, check=False).returncode


CLIENTS = {"openai": with_openai, "anthropic": with_anthropic, "lm-eval": with_lm_eval, "locust": with_locust}


def main():
    fathom = os.path.abspath(sys.argv[1])
    install()
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[2:] or CLIENTS:
            print(f"== {name}", flush=True)
            server = Server(fathom, folder)
            if CLIENTS[name](server, environment(folder), folder):
                bad.append(name)
            bad += server.idle()
            if code := server.stop():
                bad.append(f"the server ended with {code} after {name}:\n{server.text()[-4000:]}")
    print("clients:", "; ".join(bad) if bad else "all well")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
