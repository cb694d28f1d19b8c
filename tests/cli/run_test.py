"""run: answers of the model that ships, sampling, limits, reasoning, a conversation on a terminal."""
import errno
import os
import pty
import re
import select
import signal
import subprocess
import tempfile
import termios
import time

from fathom import DEMO, FATHOM, WAIT_S, Case, main, run


class Answers(Case):
    def test_answers(self):
        for prompt in ("What is 2+3?", "Hello!", "What is the capital of France?"):
            text = self.ok("run", DEMO, prompt, "--temperature", 0, "--max-tokens", 40)
            self.assertTrue(text.strip(), prompt)
            self.assertTrue(text.endswith("\n"))

    def test_stdin_is_the_prompt(self):
        args = ("--temperature", 0, "--max-tokens", 12)
        self.assertEqual(self.ok("run", DEMO, *args, stdin="What is 2+3?\n"),
                         self.ok("run", DEMO, "What is 2+3?", *args))

    def test_same_seed_same_answer(self):
        def answer(seed):
            return self.ok("run", DEMO, "Tell me something.", "--seed", seed, "--temperature", 1.5,
                           "--max-tokens", 24)

        self.assertEqual(answer(7), answer(7))
        self.assertGreater(len({answer(seed) for seed in range(4)}), 1)

    def test_threads_and_chunks_change_nothing(self):
        def answer(*args):
            return self.ok("run", DEMO, "What is 12+30?", "--thinking", "--show-thinking",
                           "--temperature", 0, "--max-tokens", 24, *args)

        want = answer()
        self.assertEqual(answer("--threads", 1), want)
        self.assertEqual(answer("--threads", 2, "--no-pin"), want)
        self.assertEqual(answer("--max-num-batched-tokens", 3, "--block-size", 4), want)

    def test_max_tokens(self):
        p = run("run", DEMO, "Tell me a story.", "--max-tokens", 5, "--ignore-eos", "--stats", "--seed", 1)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertRegex(p.stderr.decode(), r"^prompt: \d+ tokens .* answer: 5 tokens in .*; seed 1\n$")

    def test_context(self):
        p = run("run", DEMO, "Hello!", "--max-model-len", 16, "--ignore-eos", "--temperature", 0)
        self.assertEqual(p.returncode, 0)
        self.assertTrue(p.stdout.strip())
        self.assertEqual(p.stderr.decode(),
                         "fathom: the context of 16 tokens is full (--max-model-len)\n")

    def test_system_message_matters(self):
        args = ("What can you do?", "--temperature", 0, "--max-tokens", 24, "--stats")
        tokens = [int(re.match(r"prompt: (\d+)", run("run", DEMO, *args, *more).stderr.decode()).group(1))
                  for more in ((), ("--system", "Answer in one word."))]
        self.assertGreater(tokens[1], tokens[0] + 2)

    def test_thinking(self):
        args = ("run", DEMO, "What is 12+30?", "--thinking", "--temperature", 0, "--max-tokens", 400)
        hidden, shown = self.ok(*args), self.ok(*args, "--show-thinking")
        self.assertTrue(shown.startswith("<think>"), shown)
        self.assertIn("</think>\n", shown)
        self.assertEqual(shown.split("</think>\n", 1)[1], hidden)
        self.assertNotIn("think>", hidden)

    def test_raw_is_complete(self):
        args = ("The", "--temperature", 0, "--max-tokens", 8)
        self.assertEqual(self.ok("run", DEMO, "--raw", *args), self.ok("complete", DEMO, *args))

    def test_rules(self):
        args = ("run", DEMO, "Hello!", "--temperature", 0, "--max-tokens", 60)
        self.assertNotEqual(self.ok(*args), self.ok(*args, "--repetition-penalty", 5))
        p = run(*args, "--min-tokens", 50, "--stats")
        self.assertGreaterEqual(int(re.search(rb"answer: (\d+) tokens", p.stderr).group(1)), 50)

    def test_isa(self):
        text = self.ok("run", DEMO, "What is 2+3?", "--temperature", 0, "--max-tokens", 4, "--isa", "ref")
        self.assertTrue(text.strip())

    def test_interrupted_prompt(self):
        """Ctrl-C while a long prompt is computed ends the program, not only the answer."""
        for _ in range(20):
            p = subprocess.Popen([FATHOM, "run", DEMO, "--isa", "ref", "--max-num-batched-tokens", "16", "--log-level",
                                  "info", "--max-tokens", "1", "word " * 1500], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.assertIn(b"info weights", p.stderr.readline())  # the prompt follows
            time.sleep(0.1)
            p.send_signal(signal.SIGINT)
            p.communicate(timeout=WAIT_S)
            if p.returncode != 0:  # it was in time
                break
        self.assertEqual(p.returncode, -signal.SIGINT)

    def test_log_level(self):
        p = run("run", DEMO, "Hello!", "--max-tokens", 1, "--log-level", "info")
        self.assertEqual(p.returncode, 0)
        self.assertRegex(p.stderr.decode(), r"info engine: tier \w+ threads \d+")
        self.assertEqual(run("run", DEMO, "Hello!", "--max-tokens", 1).stderr, b"")

    def test_raw_takes_no_conversation(self):
        for more in (("--system", "x"), ("--thinking",), ("--chat-template", "x"), ("--no-show-thinking",)):
            self.fails("run", DEMO, "x", "--raw", *more, code=2, says=["--raw", "--system"])

    def test_template_that_is_no_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "pipe")
            os.mkfifo(path)
            self.fails("run", DEMO, "x", "--chat-template", path, says="not a regular file")

    def test_prompt_is_text(self):
        for args, stdin in ((("a\udcff",), b""), ((), b"a\xff"), ((), b"a\0b")):
            for command in (("run",), ("run", "--raw"), ("complete",)):
                self.fails(*command, DEMO, *args, stdin=stdin, says="at offset 1")

    def test_interrupted_answer(self):
        for _ in range(20):
            p = subprocess.Popen([FATHOM, "run", DEMO, "Hello!", "--ignore-eos", "--isa", "ref"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            first = p.stdout.read(1)
            p.send_signal(signal.SIGINT)
            text, errors = p.communicate(timeout=WAIT_S)
            if p.returncode != 0:  # it came before the context was full
                break
        self.assertEqual((p.returncode, errors), (-signal.SIGINT, b""))
        self.assertTrue((first + text).endswith(b"\n"))


class Errors(Case):
    def test_flags(self):
        self.fails("run", DEMO, "x", "--temperature", "-1", code=2, says="--temperature: found '-1'")
        self.fails("run", DEMO, "x", "--top-p", "1.5", code=2, says="--top-p: found '1.5'")
        self.fails("run", DEMO, "x", "--isa", "sse", code=2, says=["--isa: found 'sse'", "avx2"])
        self.fails("run", DEMO, "x", "--block-size", "48", says="--block-size 48")
        self.fails("run", DEMO, "x", "--max-model-len", "1M", says="--max-model-len 1048576")
        self.fails("run", DEMO, "x", "y", code=2, says="unexpected argument 'y'")
        self.fails("run", code=2, says="MODEL")

    def test_empty_prompt(self):
        self.fails("run", DEMO, "", says="PROMPT: the prompt is empty")
        self.fails("run", DEMO, stdin="", says="stdin: the prompt is empty")

    def test_closed_stdout(self):
        p = subprocess.Popen([FATHOM, "run", DEMO, "Hello!", "--ignore-eos"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        p.stdout.read(1)
        p.stdout.close()
        self.assertEqual(p.stderr.read(), b"")
        p.stderr.close()
        self.assertEqual(p.wait(WAIT_S), 1)


class Terminal(Case):
    """A conversation over a pseudo terminal."""

    def start(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "dumb"
            os.environ["LC_ALL"] = "C.UTF-8"
            os.execv(FATHOM, [FATHOM, "run", DEMO, "--temperature", "0", *args])
        self.text = ""

    def tearDown(self):
        os.close(self.fd)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def read_until(self, pattern):
        """Consumes the output up to and including the pattern and returns it; None: the end."""
        deadline = time.monotonic() + WAIT_S
        while True:
            match = re.search(pattern, self.text) if pattern else None
            if match:
                found, self.text = self.text[:match.end()], self.text[match.end():]
                return found
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                self.fail("waited for %r, got %r" % (pattern, self.text))
            try:
                data = os.read(self.fd, 4096)
            except OSError as error:  # Linux: the other side is closed
                if error.errno != errno.EIO:
                    raise
                data = b""
            if not data:
                self.assertIsNone(pattern, self.text)
                return self.text
            self.text += data.decode(errors="replace")

    def send(self, text):
        """Types once libedit reads keys: what comes before is treated by the kernel."""
        deadline = time.monotonic() + WAIT_S
        while termios.tcgetattr(self.fd)[3] & termios.ICANON:
            self.assertLess(time.monotonic(), deadline, "libedit does not read")
            time.sleep(0.01)
        os.write(self.fd, text.encode())

    def end_input(self):
        self.send("\x04")
        self.read_until(None)

    def exit_code(self):
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def test_conversation(self):
        self.start()
        self.read_until(">>> ")
        self.send("/help\n")
        self.assertIn("/thinking", self.read_until(r"program\.\r\n.*>>> "))
        self.send("What is 2+3?\n")
        first = self.read_until(r"3\?\r?\n(.+?)\r\n.*>>> ")
        self.assertRegex(first, r"\w")
        self.send("/thinking\n")
        self.read_until("thinking is on")
        self.read_until(">>> ")
        self.send("What is 12+30?\n")
        answer = self.read_until(r"30\?(?s:.*)>>> ")
        self.assertIn("\033[2m", answer)
        self.assertIn("\033[0m", answer)
        self.send("/nonsense\n")
        self.read_until("unknown command /nonsense")
        self.send("/clear\n")
        self.read_until(">>> ")
        self.send("/exit\n")
        self.read_until(None)
        self.assertEqual(self.exit_code(), 0)

    def test_end_of_input(self):
        self.start()
        self.read_until(">>> ")
        self.end_input()
        self.assertEqual(self.exit_code(), 0)

    def test_interrupt(self):
        """Ctrl-C stops an answer that would fill the context; the conversation goes on."""
        self.start("--ignore-eos", "--threads", "1", "--isa", "ref")
        self.read_until(">>> ")
        self.send("Hello!\n")
        self.read_until(r"Hello!\r?\n[^>]*\w\w")
        os.write(self.fd, b"\x03")
        self.read_until(r"\n.*>>> ")
        self.end_input()
        self.assertEqual(self.exit_code(), 0)


if __name__ == "__main__":
    main()
