"""Commands without a model: version, help, the option parser, collect-env, a closed stdout."""
import json
import os
import re
import subprocess

from fathom import FATHOM, Case, main


class Help(Case):
    def commands(self):
        return re.findall(r"^  ([a-z]+(?:[- ][a-z]+)*)  ", self.ok("--help"), re.M)

    def test_version(self):
        self.assertRegex(self.ok("--version"), r"^fathom \d+\.\d+\.\d+\n$")

    def test_every_command_has_help(self):
        names = self.commands()
        self.assertIn("collect-env", names)
        for name in names:
            words = name.split()
            text = self.ok("help", *words)
            self.assertTrue(text.startswith("usage: fathom " + name), text)
            self.assertEqual(text, self.ok(*words, "--help"))
            self.assertEqual(text, self.ok(*words, "--nonsense", "-h"))
            for line in text.splitlines():
                self.assertLessEqual(len(line), 100, line)

    def test_group(self):
        text = self.ok("help", "bench")
        self.assertIn("bench model", text)
        self.assertNotIn("tokenize   ", text.replace("bench tokenize", ""))
        self.assertEqual(text, self.ok("bench", "--help"))
        self.fails("bench", "modle", code=2, says=["found modle", "model, kernel, load, latency, throughput, drafts, serve, tokenize"])

    def test_no_command(self):
        self.fails(code=2, says="expected a command")

    def test_unknown_command(self):
        self.fails("colect-env", code=2, says="did you mean collect-env?")
        self.fails("zzzzzzzzzz", code=2, says="unknown command 'zzzzzzzzzz'")
        self.fails("help", "nothing-like-it", code=2, says="unknown command")


class Options(Case):
    def test_errors(self):
        self.fails("collect-env", "--jsno", code=2, says=["--jsno", "did you mean --json?"])
        self.fails("collect-env", "--js", code=2, says="did you mean --json?")
        self.fails("collect-env", "--json=1", code=2, says=["--json", "found a value '1'"])
        self.fails("collect-env", "--no-json=1", code=2, says="--no-json")
        self.fails("collect-env", "-x", code=2, says="unknown option -x")
        self.fails("collect-env", "--", "--json", code=2, says="unexpected argument '--json'")
        self.fails("collect-env", "--" + "a" * 5000, code=2, says="unknown option")
        self.fails("collect-env", "--frobnicate", code=2, says="see fathom help")
        self.fails("run", "x", "--top-p", "0", code=2, says=["--top-p", "above 0 and at most 1"])
        self.fails("run", "x", "--seed", "-1", code=2, says="a whole number from 0 to 9007199254740992")
        self.fails("run", "x", "--log-level", "loud", code=2, says=["--log-level", "error|warn|info"])
        self.fails("run", "x", "hi", "-q", code=2, says="--quantization: expected a value (fp8|ascend|w8a8_dynamic)")
        self.fails("run", "x", "--seed", code=2, says="--seed: expected a value (N)")

    def test_control_characters(self):
        self.fails("x\ny", code=2, says="x\\x0ay")
        self.fails("inspect", "/nowhere\x1b[31m", says="/nowhere\\x1b[31m")

    def test_switches(self):
        self.assertEqual(self.ok("collect-env", "--json")[0], "{")
        self.assertNotEqual(self.ok("collect-env", "--json", "--no-json")[0], "{")


class CollectEnv(Case):
    def test_fields(self):
        env = json.loads(self.ok("collect-env", "--json"))
        self.assertEqual(env["fathom"], self.ok("--version").split()[1])
        self.assertGreaterEqual(int(env["cpus"]), 1)
        for key in ("os", "kernel", "libc", "cpu", "memory", "cpu features"):
            self.assertTrue(env[key], key)

    def test_tells_no_secrets(self):
        text = self.ok("collect-env", env={"API_KEY": "sesame-5511"})
        self.assertNotIn("sesame-5511", text)


class Stdout(Case):
    def test_full_device(self):
        with open("/dev/full", "wb") as full:
            p = subprocess.run([FATHOM, "--help"], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(p.returncode, 1)
        self.assertIn(b"stdout: No space left", p.stderr)

    def test_closed_pipe(self):
        r, w = os.pipe()
        os.close(r)
        p = subprocess.run([FATHOM, "--help"], stdout=w, stderr=subprocess.PIPE)
        os.close(w)
        self.assertEqual((p.returncode, p.stderr), (1, b""))


if __name__ == "__main__":
    main()
