"""inspect: figures that the checkpoint's own headers confirm."""
import json
import os

import checkpoint
from fathom import DEMO, GOLDEN, Case, main


def headers(directory):
    tensors = {}
    for name in os.listdir(directory):
        if name.endswith(".safetensors") and name not in ("golden.safetensors", "routes.safetensors"):
            header, _ = checkpoint.read(os.path.join(directory, name))
            header.pop("__metadata__", None)
            tensors.update(header)
    return tensors


class Inspect(Case):
    def json(self, *args):
        return json.loads(self.ok("inspect", "--json", *args))

    def test_counts(self):
        for name, mtp, layers in (("v31-bf16", 1, 3), ("v31-fp8", 1, 3), ("moonlight-bf16", 0, 3)):
            directory = os.path.join(GOLDEN, name)
            v = self.json("--no-probe", directory)
            tensors = headers(directory)
            self.assertEqual(v["tensors"], len(tensors), name)
            self.assertEqual((v["mtp"], v["layers"]), (mtp, layers), name)
            total = 0
            for dtype, entry in v["formats"].items():
                mine = [t for t in tensors.values() if t["dtype"] == dtype]
                self.assertEqual(entry["tensors"], len(mine), dtype)
                self.assertEqual(entry["bytes"], sum(t["data_offsets"][1] - t["data_offsets"][0]
                                                     for t in mine))
                total += entry["bytes"]
            self.assertEqual(v["file_bytes"], total)
            self.assertFalse(v["tokenizer"])
            self.assertTrue(v["fits"])

    def test_parameters(self):
        directory = os.path.join(GOLDEN, "v31-bf16")
        v = self.json("--no-probe", directory)
        fp8 = self.json("--no-probe", os.path.join(GOLDEN, "v31-fp8"))
        main_model, mtp = 0, 0
        for name, tensor in headers(directory).items():
            size = 1
            for n in tensor["shape"]:
                size *= n
            if not name.startswith("model.layers.3."):
                main_model += size
            elif "embed_tokens" not in name and "shared_head.head" not in name:
                mtp += size
        self.assertEqual((v["parameters"], v["mtp_parameters"]), (main_model, mtp))
        # The same model in FP8: scales are no parameters.
        self.assertEqual((fp8["parameters"], fp8["mtp_parameters"]), (main_model, mtp))
        # W4A8 keeps two values in a byte of its experts.
        w8a8, w4a8 = (self.json("--no-probe", os.path.join(GOLDEN, name)) for name in ("v31-w8a8", "v31-w4a8"))
        self.assertEqual(w8a8["parameters"], w4a8["parameters"])
        self.assertLess(w4a8["token_bytes"], w8a8["token_bytes"])
        self.assertLess(v["active_parameters"], v["parameters"])
        self.assertLess(fp8["token_bytes"], v["token_bytes"])
        self.assertEqual(v["cache_token_bytes"], 3 * 2 * (128 + 32))

    def test_demo(self):
        v = self.json(DEMO)
        self.assertTrue(v["tokenizer"] and v["chat_template"])
        self.assertGreater(v["read_bytes_per_s"], 1e6)
        self.assertAlmostEqual(v["limit_tokens_per_s"], v["read_bytes_per_s"] / v["token_bytes"], delta=1)

    def test_table(self):
        text = self.ok("inspect", "--no-probe", DEMO)
        for label in ("model type", "layers", "parameters", "context", "read per token", "fits here"):
            self.assertIn("\n" + label if label != "model type" else label, text)
        self.assertNotIn("read bandwidth", text)

    def test_does_not_fit(self):
        v = self.json("--no-probe", "--memory-limit", "1M", DEMO)
        self.assertFalse(v["fits"])
        self.assertEqual(v["available_bytes"], 1 << 20)
        self.assertIn("fits here              NO", self.ok("inspect", "--no-probe", "--memory-limit", "1M", DEMO))

    def test_errors(self):
        self.fails("inspect", "/nonexistent", says="/nonexistent/config.json")
        self.fails("inspect", code=2, says="MODEL")


if __name__ == "__main__":
    main()
