"""--quantization: one table for all commands that compute; what it refuses; a float model answering as W8A8."""
import json
import os

from fathom import DATA, DEMO, GOLDEN, Case, main

CHOICES = "expected fp8|ascend|w8a8_dynamic"
COMMANDS = (("serve", DEMO), ("run", DEMO, "hi"), ("complete", DEMO, "hi"), ("verify", DEMO), ("bench", "latency"),
            ("bench", "throughput"), ("bench", "drafts", DEMO))
FP8 = os.path.join(GOLDEN, "v31-fp8")
W8A8 = os.path.join(GOLDEN, "v31-w8a8")


class Names(Case):
    def test_unknown(self):
        """Names of vLLM that fathom cannot honour, and others."""
        for command in COMMANDS:
            for name in ("awq", "compressed-tensors", "experts_int8", "w8a8", ""):
                self.fails(*command, "--quantization", name, code=2, says=("--quantization", f"found '{name}'", CHOICES))
            self.fails(*command, "-q", "gptq", code=2, says=CHOICES)

    def test_other_checkpoints(self):
        for name, directory, says in (("fp8", DEMO, "config.json has no quantization_config fp8"),
                                      ("ascend", FP8, "has no quant_model_description*.json"),
                                      ("w8a8_dynamic", W8A8, "it is quantized already")):
            for command in ("verify", "complete", "serve"):
                arguments = [command, directory, *(["hi"] if command == "complete" else [])]
                if command == "verify" or directory == DEMO:  # which has a tokenizer, too
                    self.fails(*arguments, "--quantization", name, "--log-level", "error",
                               says=("--quantization " + name, says))

    def test_random_weights(self):
        self.fails("bench", "latency", "--shape", "v2-lite", "--quantization", "fp8",
                   says="--quantization fp8: random weights are made in --format")
        self.fails("bench", "model", "--quantization", "fp8", code=2, says="--quantization")

    def test_what_it_is(self):
        """fp8 and ascend change nothing where they are true."""
        for name, directory in (("fp8", FP8), ("ascend", W8A8)):
            plain, named = (json.loads(self.ok("verify", directory, "--json", *more))["tiers"][0]["digest"]
                            for more in ((), ("-q", name)))
            self.assertEqual(plain, named)


class Demo(Case):
    """BF16 made W8A8 while it is loaded."""

    def test_golden(self):
        """Medians are 0.061 and 0.108; 0.014 and 0.018 without."""
        self.ok("verify", DEMO, os.path.join(DATA, "demo", "golden.safetensors"), "--isa", "all", "-q", "w8a8_dynamic",
                "--limit", "0.1", "--mtp-limit", "0.18")

    def test_answers(self):
        """Held-out questions, each of which the model answers well."""
        with open(os.path.join(DEMO, "eval", "docs.jsonl"), encoding="utf-8") as file:
            items = [json.loads(line) for line in file][:15]
        right = 0
        for item in items:
            text = self.ok("run", DEMO, item["messages"][-1]["content"], "--temperature", 0, "-q", "w8a8_dynamic")
            right += all(word in text for word in item["check"]["words"])
        self.assertGreaterEqual(right / len(items), 0.6)

    def test_memory(self):
        """The budget is that of the packed size: half of BF16's for the layers."""
        def smallest(*more):
            said = self.fails("complete", DEMO, "hi", "--memory-limit", "1M", "--max-model-len", "64", *more, says="(weights ")
            return float(said.split("(weights ")[1].split(",")[0])
        self.assertLess(smallest("-q", "w8a8_dynamic"), 0.75 * smallest())


if __name__ == "__main__":
    main()
