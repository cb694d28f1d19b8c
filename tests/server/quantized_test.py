"""The demo quantized as msmodelslim would (tools/quantize_demo.py), W8A8 and W4A8: logits near the float model's, held-out
questions answered, a chat served."""
import json
import os
import subprocess
import sys
import tempfile

import serving
from serving import FATHOM, Case, real

ROOT = os.path.abspath(sys.argv[3])
DATA = os.path.join(ROOT, "tests", "data", "demo")


class Quantized:
    KIND = LIMITS = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = os.path.join(cls.folder.name, cls.KIND)
        subprocess.run([sys.executable, os.path.join(ROOT, "tools", "quantize_demo.py"), cls.KIND, serving.DEMO,
                        os.path.join(DATA, "ranges.json"), cls.model], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_logits(self):
        p = subprocess.run([FATHOM, "verify", self.model, os.path.join(DATA, "golden.safetensors"), "--isa", "all", "--limit",
                            self.LIMITS[0], "--mtp-limit", self.LIMITS[1]], capture_output=True, check=False)
        self.assertEqual(p.returncode, 0, p.stdout.decode() + p.stderr.decode())

    def test_served(self):
        with real("--quantization", "ascend", model=self.model) as server:
            answer = server.chat("What does fathom run do?", temperature=0, max_tokens=60).json["choices"][0]
            self.assertEqual(answer["finish_reason"], "stop")
            self.assertIn("prints one answer", answer["message"]["content"])
            for skill, least in (("docs", 0.6), ("tool_output", 0.8)):
                with open(os.path.join(serving.DEMO, "eval", skill + ".jsonl"), encoding="utf-8") as file:
                    items = [json.loads(line) for line in file][:15]
                self.assertGreaterEqual(sum(self.is_right(server, item) for item in items) / len(items), least, skill)

    @staticmethod
    def is_right(server, item):
        body = {"tools": item["tools"]} if item["tools"] else {}
        answer = server.chat(messages=item["messages"], temperature=0, max_tokens=120, **body)
        text = answer.json["choices"][0]["message"]["content"] or ""
        return all(word in text for word in item["check"]["words"])


class W8A8(Quantized, Case):
    # Medians are 0.066 and 0.097; the float model's are 0.014 and 0.018.
    KIND, LIMITS = "w8a8", ("0.1", "0.15")


class W4A8(Quantized, Case):
    # Medians are 0.24 and 0.16; logits have a standard deviation of 3.2 and 3.0.
    KIND, LIMITS = "w4a8", ("0.35", "0.25")


if __name__ == "__main__":
    serving.main()
