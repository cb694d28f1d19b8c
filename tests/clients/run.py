"""Runs real clients, unmodified, against `fathom serve models/demo` on a free loopback port.

Usage: run.py FATHOM [openai|anthropic|lm-eval|locust|vllm|guidellm ...]      default: all
Needs network the first time: requirements.txt and requirements-load.txt become virtual environments of their own.
Ends with 1 when a client fails, or when none could be installed; one that cannot be installed is named with the reason.
"""
import collections
import glob
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DEMO = os.path.join(ROOT, "models", "demo")
FATHOM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else ""
KEY = "clients-key"


class Failed(Exception):
    """A client did not do what it should."""


class Absent(Exception):
    """An environment cannot be installed here."""


class Environment:
    """A virtual environment, made again whenever its list changes."""

    def __init__(self, requirements, folder, gigabytes):
        self.list = os.path.join(HERE, requirements)
        self.folder = os.path.join(ROOT, folder)
        self.gigabytes = gigabytes
        self.absent = None

    def program(self, name):
        return os.path.join(self.folder, "bin", name)

    def install(self):
        if self.absent:
            raise Absent(self.absent)
        with open(self.list, encoding="utf-8") as file:
            wanted = file.read()
        stamp = os.path.join(self.folder, "installed.txt")
        if os.path.exists(stamp):
            with open(stamp, encoding="utf-8") as file:
                if file.read() == wanted:
                    return
        self.absent = self.make()
        if self.absent:
            raise Absent(self.absent)
        with open(stamp, "w", encoding="utf-8") as file:
            file.write(wanted)

    def make(self):
        """None, or why it cannot be."""
        if platform.machine() != "x86_64" or sys.version_info[:2] < (3, 11):
            return f"the pinned wheels are for x86-64 and Python 3.11 or newer, this is {platform.machine()}, {platform.python_version()}"
        shutil.rmtree(self.folder, ignore_errors=True)
        free = shutil.disk_usage(ROOT).free / 1e9
        if free < self.gigabytes:
            return f"needs {self.gigabytes} GB of disk, {free:.1f} GB are free"
        began = time.monotonic()
        print(f"== {os.path.basename(self.list)}: installing", flush=True)
        for command in ([sys.executable, "-m", "venv", self.folder],
                        [self.program("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir",
                         "--no-deps", "-r", self.list]):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode:
                print(done.stdout[-4000:])
                return f"{' '.join(command[1:4])}: " + (done.stdout.strip().splitlines() or ["no message"])[-1]
        print(f"== {os.path.basename(self.list)}: installed in {time.monotonic() - began:.0f} s", flush=True)
        return None

    def version(self, package):
        code = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
        return subprocess.run([self.program("python"), "-c", code, package], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


API = Environment("requirements.txt", "build-clients", 3)
LOAD = Environment("requirements-load.txt", "build-clients-load", 12)


class Server:
    def __init__(self, folder, *more):
        self.path = os.path.join(folder, "server.log")
        with open(self.path, "wb") as log:
            self.process = subprocess.Popen(
                [FATHOM, "serve", DEMO, "--host", "127.0.0.1", "--port", "0", "--served-model-name", "demo", "--no-pin",
                 "--max-num-seqs", "16", "--enable-tokenizer-info-endpoint", "--disable-uvicorn-access-log", *more],
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

    def metrics(self):
        """Every vllm: sample's value by its name, summed over labels; requests that ended also by name and reason."""
        request = urllib.request.Request(self.url + "/metrics", headers={"Authorization": "Bearer " + KEY})
        values = collections.Counter()
        with urllib.request.urlopen(request, timeout=60) as answer:
            for name, labels, value in re.findall(r"^(vllm:\w+)\{(.*)\} (\S+)$", answer.read().decode(), re.M):
                values[name] += float(value)
                if reason := re.search('finished_reason="(.*?)"', labels):
                    values[name + " " + reason.group(1)] += float(value)
        return values

    def counts(self):
        """Requests that ended well, prompt tokens, generated tokens since the start."""
        m = self.metrics()
        ended = m["vllm:request_success_total stop"] + m["vllm:request_success_total length"]
        return tuple(int(v) for v in (ended, m["vllm:prompt_tokens_total"], m["vllm:generation_tokens_total"]))

    def idle(self):
        """Nothing of what the clients began is left."""
        names = ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"]
        end = time.monotonic() + 30
        while any((m := self.metrics())[name] for name in names):
            if time.monotonic() > end:
                raise Failed("; ".join(f"{name} stays {m[name]}" for name in names if m[name]))
            time.sleep(0.1)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def call(command, env, cwd=None, quiet=False):
    """Runs a client; quiet ones are heard only when they fail."""
    done = subprocess.run(command, env=env, cwd=cwd, text=True, errors="replace", check=False, timeout=600,
                          **({"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if quiet else {}))
    if done.returncode:
        print((done.stdout or "")[-6000:])
        raise Failed(f"{os.path.basename(command[0])} ended with {done.returncode}")


def expect(what, found, wanted):
    if found != wanted:
        raise Failed(f"{what}: {found}, expected {wanted}")


def with_openai(server, env, _):
    call([API.program("python"), os.path.join(HERE, "openai_client.py"), server.url + "/v1", KEY], env)


def with_anthropic(server, env, _):
    call([API.program("python"), os.path.join(HERE, "anthropic_client.py"), server.url, KEY], env)


def lm_eval(server, env, folder, model, path, task):
    """Results of one task and the texts of its answers; lm-eval reads tokens over HTTP, so that it needs no tokenizer of its own."""
    out = os.path.join(folder, task)
    chat = model == "local-chat-completions"
    extra = "" if chat else ",tokenized_requests=True,tokenizer_backend=remote"
    call([API.program("python"), "-m", "lm_eval", "run", "--model", model, "--tasks", task, "--include_path", ".", "--output_path", out,
          "--log_samples", "--model_args",
          f"base_url={server.url}{path},model=demo,num_concurrent=4,max_retries=1,auth_token={KEY}{extra}",
          *(["--apply_chat_template"] if chat else [])], env, os.path.join(HERE, "task"), quiet=True)
    with open(glob.glob(out + "/**/results_*.json", recursive=True)[0], encoding="utf-8") as file:
        result = json.load(file)["results"][task]
    with open(glob.glob(out + f"/**/samples_{task}_*.jsonl", recursive=True)[0], encoding="utf-8") as file:
        samples = [json.loads(line) for line in file]
    return result, {s["doc_id"]: s["resps"] for s in samples}


def with_lm_eval(server, env, folder):
    """The model knows the sentences of fathom_choice, so that the wrong ends are the less likely ones; most of the sums are in reach.
    A prompt that the server renders and the same one rendered by hand must give the same answers."""
    choice, _ = lm_eval(server, env, folder, "local-completions", "/v1/completions", "fathom_choice")
    print(f"   log-likelihood: accuracy {choice['acc,none']} of {choice['sample_len']}")
    expect("accuracy of fathom_choice", choice["acc,none"], 1.0)
    raw, raw_texts = lm_eval(server, env, folder, "local-completions", "/v1/completions", "fathom_sums_completions")
    chat, chat_texts = lm_eval(server, env, folder, "local-chat-completions", "/v1/chat/completions", "fathom_sums_chat")
    scores = [r["exact_match,number"] for r in (raw, chat)]
    print(f"   sums: completions {scores[0]:.4f}, chat {scores[1]:.4f} of {len(raw_texts)}")
    expect("answers of both modes", chat_texts, raw_texts)
    expect("scores of both modes", scores[1], scores[0])
    if scores[0] < 0.7:
        raise Failed(f"score of the sums: {scores[0]}, expected 0.7 or more")


def with_locust(server, env, _):
    call([API.program("python"), "-m", "locust", "-f", os.path.join(HERE, "load_client.py"), "--headless", "--users", "12",
          "--spawn-rate", "12", "--run-time", "20s", "--stop-timeout", "60", "--only-summary", "--host", server.url], env)


def bench_serve(program, server, env, folder, backend, endpoint, rate):
    """What one run says of itself, held against what the server counted meanwhile."""
    before, name = server.counts(), f"{os.path.basename(program)}-{backend}.json"
    call([program, "bench", "serve", "--backend", backend, "--endpoint", endpoint, "--base-url", server.url, "--model", "demo",
          "--tokenizer", DEMO, "--dataset-name", "random", "--random-input-len", "100", "--random-output-len", "20",
          "--num-prompts", "60", "--request-rate", rate, "--ignore-eos", "--temperature", "0", "--save-result",
          "--result-dir", folder, "--result-filename", name], env, quiet=True)
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        said = json.load(file)
    server.idle()
    counted = tuple(after - b for after, b in zip(server.counts(), before))
    print(f"   {os.path.basename(program)} bench serve, {backend}, rate {rate}: {said['completed']} requests, {said['failed']} failed,"
          f" {said['total_input_tokens']} + {said['total_output_tokens']} tokens;"
          f" the server counted {counted[0]} requests, {counted[1]} + {counted[2]} tokens", flush=True)
    expect("requests", (said["completed"], said["failed"]), (60, 0))
    expect("generated tokens", said["total_output_tokens"], 1200)
    first = counted[0] - said["completed"]  # one single request in front is no part of the figures
    expect("one request in front", first in (0, 1), True)
    expect("generated tokens counted by the server", counted[2], counted[0] * 20)
    return said, counted


def with_vllm(server, env, folder):
    """The same benchmark by vllm and by fathom: what they count, and the fields of their results."""
    for backend, endpoint in (("openai", "/v1/completions"), ("openai-chat", "/v1/chat/completions")):
        said, counted = bench_serve(LOAD.program("vllm"), server, env, folder, backend, endpoint, "40")
        expect("requests and prompt tokens counted by the server", counted[:2], (60, said["total_input_tokens"]))
        ours, _ = bench_serve(FATHOM, server, env, folder, backend, endpoint, "40")
        expect("fields of vllm's result that fathom's lacks", sorted(set(said) - set(ours)), [])
        wrong = [k for k in said if isinstance(said[k], (int, float)) != isinstance(ours[k], (int, float))
                 or isinstance(said[k], list) != isinstance(ours[k], list)]
        expect("fields of another type", wrong, [])


def with_guidellm(server, env, folder):
    for path in ("/v1/chat/completions", "/v1/completions"):
        before, out = server.counts(), os.path.join(folder, "guidellm.json")
        call([LOAD.program("guidellm"), "run", "--backend",
              f"kind=openai_http,target={server.url},model=demo,api_key={KEY},request_format={path}",
              "--profile", "kind=concurrent,streams=6", "--constraint", "kind=max_requests,count=60",
              "--tokenizer", f"kind=huggingface_auto,model={DEMO}", "--data", "kind=synthetic_text,prompt_tokens=60,output_tokens=20",
              "--output", "kind=json,path=" + out, "--disable-progress"], env, quiet=True)
        with open(out, encoding="utf-8") as file:
            said = json.load(file)["benchmarks"][0]
        os.remove(out)
        total, requests = said["metrics"]["request_totals"], said["requests"]["successful"]
        tokens = [sum(r[kind] for r in requests) for kind in ("prompt_tokens", "output_tokens")]
        server.idle()
        counted = tuple(after - b for after, b in zip(server.counts(), before))
        print(f"   {path}: {total['successful']} requests, {total['errored']} failed, {tokens[0]} + {tokens[1]} tokens;"
              f" the server counted {counted[0]} requests, {counted[1]} + {counted[2]} tokens", flush=True)
        expect("requests", (total["successful"], total["errored"], total["incomplete"]), (60, 0, 0))
        expect("what the server counted", counted, (60, *tokens))


# what runs it, its environment, its package, the server's options
CLIENTS = {
    "openai": (with_openai, API, "openai", ["--api-key", KEY]),
    "anthropic": (with_anthropic, API, "anthropic", ["--api-key", KEY]),
    "lm-eval": (with_lm_eval, API, "lm_eval", ["--api-key", KEY]),
    "locust": (with_locust, API, "locust", ["--api-key", KEY]),
    "vllm": (with_vllm, LOAD, "vllm", []),  # it asks /tokenize and /metrics without its key
    "guidellm": (with_guidellm, LOAD, "guidellm", ["--api-key", KEY]),
}


def attempt(name, folder):
    """One client from installation to the server's end."""
    run, environment, package, options = CLIENTS[name]
    environment.install()
    print(f"== {name} {environment.version(package)}", flush=True)
    env = {**os.environ, "OPENAI_API_KEY": KEY, "HF_HOME": folder, "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1",
           "PYTHONDONTWRITEBYTECODE": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "VLLM_NO_USAGE_STATS": "1"}
    began, server = time.monotonic(), Server(folder, *options)
    try:
        run(server, env, folder)
        server.idle()
        print("   the server answered %d requests: %d tokens of prompts, %d generated;" % server.counts(),
              f"{time.monotonic() - began:.0f} s", flush=True)
    finally:
        code = server.stop()
    if code:
        raise Failed(f"the server ended with {code}:\n{server.text()[-4000:]}")


def main():
    names = sys.argv[2:] or list(CLIENTS)
    passed, bad, absent = [], [], []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                attempt(name, folder)
                passed.append(name)
            except Absent as e:
                absent.append(f"{name}: not installable here: {e}")
            except (Failed, subprocess.SubprocessError, OSError) as e:
                print(f"   {name} FAILED: {e}", flush=True)
                bad.append(name)
    for line in absent:
        print("skipped", line)
    print(f"clients: {len(passed)} passed, {len(bad)} failed, {len(absent)} skipped" + (": failed " + ", ".join(bad) if bad else ""))
    return int(bool(bad) or not passed)


if __name__ == "__main__":
    sys.exit(main())
