#!/usr/bin/env python3
"""Makes the demo model from nothing: tokenizer, held-out set, training, export, golden file.

    python3 -m venv VENV && VENV/bin/pip install -r tools/demo/requirements.txt
    VENV/bin/python tools/demo/build.py --folder FOLDER

FOLDER keeps the checkpoints (180 MB); started again, training goes on from the last one. With --model the result goes
elsewhere than models/demo.
"""
import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# The course of the learning rate of the published weights: two falls, the second with the third phase of data.py.
RATES = "0:1,4664337:1,10664337:0,11000000:0.5,30000000:0"
# Large blocks stay with the process: without this, a third of the time goes into mapping fresh pages.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


def run(script, *args):
    print("+", script, *args, flush=True)
    subprocess.run([sys.executable, os.path.join(HERE, script), *map(str, args)], check=True, env={**os.environ, **MALLOC})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True, help="for checkpoints and the training log")
    parser.add_argument("--model", default=os.path.join(ROOT, "models", "demo"))
    parser.add_argument("--source", default=os.path.join(ROOT, "tests", "data", "deepseek-v3.1"),
                        help="folder with V3.1's tokenizer.json, tokenizer_config.json and chat_template.tools.jinja")
    parser.add_argument("--golden", default=os.path.join(ROOT, "tests", "data", "demo", "golden.safetensors"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rates", default=RATES, help="see train.py (default %(default)s)")
    args = parser.parse_args()

    os.makedirs(args.model, exist_ok=True)
    run("tokenizer.py", os.path.join(args.source, "tokenizer.json"), os.path.join(args.model, "tokenizer.json"))
    with open(os.path.join(args.source, "tokenizer_config.json"), encoding="utf-8") as file:
        config = json.load(file)
    with open(os.path.join(args.source, "chat_template.tools.jinja"), encoding="utf-8") as file:
        config.update(chat_template=file.read(), model_max_length=4096)
    with open(os.path.join(args.model, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, ensure_ascii=False, indent=2)
        file.write("\n")
    run("heldout.py", os.path.join(args.model, "eval"))
    run("train.py", "--model", args.model, "--folder", args.folder, "--seed", args.seed,
        "--rates", args.rates)
    run("export.py", os.path.join(args.folder, "checkpoint.pt"), args.model)
    os.makedirs(os.path.dirname(args.golden), exist_ok=True)
    run("golden.py", args.model, args.golden)
    run("score.py", args.model)
    run("score.py", args.model, "--limit", 12, "--answers", os.path.join(os.path.dirname(args.golden), "answers.jsonl"))


if __name__ == "__main__":
    main()
