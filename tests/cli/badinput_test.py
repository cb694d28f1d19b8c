"""Damaged checkpoints, hostile files and impossible requests: one line on stderr that names the culprit,
exit code 1, nothing on stdout, quickly."""
import json
import os
import struct

import checkpoint
from fathom import DEMO, GOLDEN, Case, main

SHARDED = os.path.join(GOLDEN, "v31-bf16")
SINGLE = os.path.join(GOLDEN, "moonlight-bf16")
SECONDS = 300  # a moment, on a slow machine that does something else


class Bad(Case):
    def refused(self, directory, says, command="verify", more=()):
        return self.fails(command, directory, *more, says=says, timeout=SECONDS)

    def damaged(self, source, damage, says, **kw):
        """Copies a checkpoint, lets damage(directory) change it, expects every command that reads it to
        fail."""
        with checkpoint.copy(source) as directory:
            damage(directory)
            self.refused(directory, says, **kw)


class Safetensors(Bad):
    FILE = "model.safetensors"

    def with_header(self, change, says):
        def damage(directory):
            path = os.path.join(directory, self.FILE)
            header, data = checkpoint.read(path)
            change(header)
            checkpoint.write(path, header, data)
        self.damaged(SINGLE, damage, says)

    def with_bytes(self, change, says):
        def damage(directory):
            path = os.path.join(directory, self.FILE)
            with open(path, "rb") as file:
                data = file.read()
            with open(path, "wb") as file:
                file.write(change(data))
        self.damaged(SINGLE, damage, says)

    def test_truncated(self):
        for keep in (0, 3, 8, 100, 4096, 1000000):
            self.with_bytes(lambda data, keep=keep: data[:keep], self.FILE)
        self.with_bytes(lambda data: data[:100], "the file ends after 100 bytes, inside its header")
        self.with_bytes(lambda data: data[:-1], self.FILE)
        self.with_bytes(lambda data: data + b"x", self.FILE)

    def test_header_length(self):
        for size in (1 << 63, (1 << 64) - 1, 1 << 40, 0, 1):
            self.with_bytes(lambda data, size=size: struct.pack("<Q", size) + data[8:], self.FILE)

    def test_header_is_not_json(self):
        self.with_bytes(lambda data: data[:8] + b"\xff" * 64 + data[72:], self.FILE)
        self.with_bytes(lambda data: struct.pack("<Q", 1 << 20) + b"[" * (1 << 20), self.FILE)
        self.with_bytes(lambda data: struct.pack("<Q", 8) + b"[1, 2]  ", self.FILE)

    def test_overlap_and_gap(self):
        name = "model.layers.1.input_layernorm.weight"

        def shift(by):
            def change(header):
                header[name]["data_offsets"] = [x + by for x in header[name]["data_offsets"]]
            return change
        self.with_header(shift(-2), self.FILE)
        self.with_header(shift(2), self.FILE)
        self.with_header(shift(-(1 << 40)), self.FILE)
        self.with_header(shift(1 << 62), self.FILE)

    def test_offsets_of_wrong_type(self):
        name = "model.norm.weight"
        for offsets in ([0], [5, 1], ["0", "4"], None, [-1, 3], [0, 1.5], {}):
            def change(header, offsets=offsets):
                header[name]["data_offsets"] = offsets
            self.with_header(change, [self.FILE, name])

    def test_dtype(self):
        name = "model.norm.weight"

        def change(dtype):
            def run(header):
                header[name]["dtype"] = dtype
            return run
        self.with_header(change("F13"), [self.FILE, name, "F13"])
        self.with_header(change("F16"), [name, "F16"])
        self.with_header(change("F32"), [name])
        self.with_header(change(3), [self.FILE, name])

    def test_shape(self):
        name = "model.layers.0.self_attn.o_proj.weight"

        def change(shape):
            def run(header):
                header[name]["shape"] = shape
            return run
        with open(os.path.join(SINGLE, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        rows, columns = config["hidden_size"], config["num_attention_heads"] * config["v_head_dim"]
        self.with_header(change([columns, rows]), name)
        self.with_header(change([rows * columns]), name)
        self.with_header(change([rows, columns, 1]), name)
        self.with_header(change([rows, -columns]), [self.FILE, name])
        self.with_header(change([1 << 40, 1 << 40]), [self.FILE, name])
        self.with_header(change([1] * 1000), [self.FILE, name])
        self.with_header(change("big"), [self.FILE, name])

    def test_missing_tensor(self):
        names = ("model.norm.weight", "lm_head.weight", "model.layers.2.mlp.experts.11.down_proj.weight",
                 "model.layers.1.mlp.gate.e_score_correction_bias")
        for name in names:
            def rename(header, name=name):
                header["unrelated." + name] = header.pop(name)
            self.with_header(rename, name)


class Shards(Bad):
    INDEX = "model.safetensors.index.json"

    def with_index(self, change, says):
        def damage(directory):
            path = os.path.join(directory, self.INDEX)
            with open(path, encoding="utf-8") as file:
                index = json.load(file)
            changed = change(index)
            index = index if changed is None else changed
            with open(path, "w", encoding="utf-8") as file:
                json.dump(index, file)
        self.damaged(SHARDED, damage, says)

    def test_missing_shard(self):
        name = "model-00002-of-00003.safetensors"
        self.damaged(SHARDED, lambda d: os.remove(os.path.join(d, name)), name)

    def test_tensor_not_where_the_index_says(self):
        def change(index):
            name = "model.norm.weight"
            other = {"model-00001-of-00003.safetensors": "model-00002-of-00003.safetensors"}
            index["weight_map"][name] = other.get(index["weight_map"][name],
                                                  "model-00001-of-00003.safetensors")
        self.with_index(change, "model.norm.weight")

    def test_index_leaves_the_directory(self):
        def change(path):
            def run(index):
                index["weight_map"]["model.norm.weight"] = path
            return run
        self.with_index(change("../model-00001-of-00003.safetensors"), self.INDEX)
        self.with_index(change("/etc/passwd"), self.INDEX)
        self.with_index(change(5), self.INDEX)

    def test_index_is_nonsense(self):
        self.with_index(lambda index: [], self.INDEX)
        self.with_index(lambda index: {"weight_map": 3}, self.INDEX)
        self.with_index(lambda index: {"weight_map": {}}, "weight_map is empty")

    def test_no_weights(self):
        def damage(directory):
            for name in os.listdir(directory):
                if name.startswith("model"):
                    os.remove(os.path.join(directory, name))
        self.damaged(SHARDED, damage, "safetensors")


class Config(Bad):
    def with_config(self, says, command="verify", **changes):
        self.damaged(SINGLE, lambda d: checkpoint.edit_json(d, "config.json", **changes), says,
                     command=command)

    def with_text(self, text, says, name="config.json", source=SINGLE, **kw):
        def damage(directory):
            with open(os.path.join(directory, name), "wb") as file:
                file.write(text)
        self.damaged(source, damage, says, **kw)

    def test_values(self):
        self.with_config(["config.json", "hidden_size", "nothing"], hidden_size=None)
        self.with_config(["config.json", "hidden_size"], hidden_size="big")
        self.with_config(["config.json", "hidden_size"], hidden_size=-192)
        self.with_config(["config.json", "hidden_size"], hidden_size=1 << 40)
        self.with_config(["config.json", "num_attention_heads"], num_attention_heads=0)
        self.with_config(["config.json", "num_experts_per_tok"], num_experts_per_tok=13)
        self.with_config(["config.json", "num_hidden_layers"], num_hidden_layers=10**9)
        self.with_config(["config.json", "rms_norm_eps"], rms_norm_eps=-1)
        self.with_config(["config.json", "model_type", "llama"], model_type="llama")
        self.with_config(["config.json", "deepseek_v32"], model_type="deepseek_v32")
        self.with_config(["config.json", "hidden_act"], hidden_act="gelu")
        self.with_config(["config.json", "scoring_func"], scoring_func="tanh")
        self.with_config(["config.json", "rope_scaling"], rope_scaling="yarn")

    def test_larger_than_its_weights(self):
        self.with_config(["model.safetensors", "640"], command="inspect", vocab_size=640)
        self.with_config("model.layers.3.", command="inspect", num_hidden_layers=4)
        self.with_config(["golden.safetensors", "prompt.0.logits"], vocab_size=640)

    def test_hostile_json(self):
        self.with_text(b"", "config.json")
        self.with_text(b"{", "config.json")
        self.with_text(b"\xff\xfe{}", "config.json")
        self.with_text(b"[" * 1000000, "config.json")
        self.with_text(b'{"a":' * 100000, "config.json")
        self.with_text(b"[" + b"1," * 50000000 + b"1]", "config.json")  # 100 MB

    def test_huge_tokenizer(self):
        self.with_text(b'{"a": "' + b"x" * 100000000 + b'"}', "tokenizer.json", name="tokenizer.json",
                       source=DEMO, command="tokenize", more=("x",))
        self.with_text(b"[" * 1000000, "tokenizer.json", name="tokenizer.json", source=DEMO,
                       command="tokenize", more=("x",))

    def test_generation_config(self):
        self.with_text(b'{"eos_token_id": 99999}', ["generation_config.json", "eos_token_id", "99999", "below"],
                       name="generation_config.json", source=DEMO, command="run", more=("Hello!",))
        self.with_text(b'{"top_p": 0}', ["generation_config.json", "top_p", "above 0"],
                       name="generation_config.json", source=DEMO, command="run", more=("Hello!",))
        self.with_text(b'{"temperature": "hot"}', ["generation_config.json", "temperature"],
                       name="generation_config.json", source=DEMO, command="run", more=("Hello!",))

    def test_no_directory(self):
        for command, more in (("run", ("x",)), ("complete", ("x",)), ("tokenize", ("x",)),
                              ("detokenize", ("1",)), ("inspect", ()), ("verify", ())):
            self.refused("/nonexistent", "/nonexistent", command=command, more=more)
            self.refused(os.path.join(SINGLE, "config.json"), "config.json", command=command, more=more)
        for command in ("inspect", "verify"):
            self.refused("", "directory is empty", command=command)


class Golden(Bad):
    def test_golden_files(self):
        self.refused(SINGLE, "/nonexistent", more=("/nonexistent",))
        self.refused(SINGLE, ["config.json"], more=(os.path.join(SINGLE, "config.json"),))
        # Another model's: the vocabulary fits, the residual and the MTP layer do not.
        other = os.path.join(SHARDED, "golden.safetensors")
        self.refused(SINGLE, [other], more=(other,))

    def with_golden(self, change, says):
        def damage(directory):
            path = os.path.join(directory, "golden.safetensors")
            header, data = checkpoint.read(path)
            data = change(header, bytearray(data)) or data
            checkpoint.write(path, header, bytes(data))
        self.damaged(SINGLE, damage, says)

    def test_damaged(self):
        def ids(value):
            def run(header, data):
                at = header["prompt.1.ids"]["data_offsets"][0]
                data[at + 8:at + 12] = struct.pack("<i", value)
                return data
            return run

        def drop(header, data):
            header["other"] = header.pop("prompt.2.logits")
        self.with_golden(ids(-1), ["golden.safetensors", "prompt.1.ids", "element 2 is -1"])
        self.with_golden(ids(1 << 30), ["prompt.1.ids", "1073741824"])
        self.with_golden(drop, ["golden.safetensors", "prompt.2.logits"])


class Requests(Bad):
    def test_prompt_longer_than_the_context(self):
        self.refused(DEMO, ["the prompt has", "16", "--max-model-len"], command="run",
                     more=("a long story " * 100, "--max-model-len", 16))
        self.refused(DEMO, ["the prompt has", "--max-model-len"], command="complete",
                     more=("a long story " * 2000,))
        self.refused(SINGLE, ["--max-model-len 64", "golden"], more=("--max-model-len", 64))

    def test_memory_limit(self):
        self.refused(DEMO, ["GB needed", "available (--memory-limit)"], command="run",
                     more=("Hello!", "--memory-limit", "1M"))
        self.refused(SINGLE, ["GB needed", "available (--memory-limit)"], more=("--memory-limit", "1M"))

    def test_more_threads_than_cores(self):
        self.refused(DEMO, ["--threads 1000", "cores"], command="run", more=("hi", "--threads", 1000))

    def test_cache_larger_than_memory(self):
        with checkpoint.copy(DEMO) as directory:
            checkpoint.edit_json(directory, "config.json", max_position_embeddings=1 << 27)
            self.refused(directory, "--max-model-len", command="run",
                         more=("Hello!", "--max-model-len", 1 << 27))

    def test_weights_of_nan(self):
        """Norms are checked while they are read; matrices show in the logits."""
        for name, says in (("model.norm.weight", ("model.safetensors", "model.norm.weight", "finite")),
                           ("lm_head.weight", ("no finite logit",))):
            with checkpoint.copy(DEMO) as directory:
                path = os.path.join(directory, "model.safetensors")
                header, data = checkpoint.read(path)
                begin, end = header[name]["data_offsets"]
                checkpoint.write(path, header, data[:begin] + b"\xff" * (end - begin) + data[end:])
                self.refused(directory, says, command="complete", more=("Hello",))


class Templates(Bad):
    MESSAGES = json.dumps({"messages": [{"role": "user", "content": "a"}]})

    def refused_template(self, template, *says):
        with checkpoint.copy(DEMO) as directory:
            path = os.path.join(directory, "evil.jinja")
            with open(path, "w", encoding="utf-8") as file:
                file.write(template)
            self.fails("tokenize", directory, "--jsonl", "--chat-template", path, stdin=self.MESSAGES,
                       says=says, timeout=SECONDS)
            self.fails("run", directory, "--chat-template", path, "a", says=says, timeout=SECONDS)

    def test_endless(self):
        self.refused_template("{% for i in range(1000000000) %}{% for j in range(1000000000) %}{{ j }}"
                              "{% endfor %}{% endfor %}")
        self.refused_template("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}")

    def test_growing(self):
        self.refused_template("{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(100) %}"
                              "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}")

    def test_deep(self):
        self.refused_template("{{ " + "(" * 100000 + "1" + ")" * 100000 + " }}")
        self.refused_template("{% if 1 %}" * 100000)

    def test_empty(self):
        for template in ("", " \n\t"):
            self.refused_template(template, "evil.jinja", "the chat template is empty")

    def test_syntax(self):
        self.refused_template("{% for %}", "evil.jinja")
        self.refused_template("{{ messages", "evil.jinja")
        self.refused_template("{{ open('/etc/passwd').read() }}")


if __name__ == "__main__":
    main()
