"""A scripted server of OpenAI streams on loopback: answers of known token counts and delays. Standard library only."""
import asyncio
import json
import re
import threading


class StreamServer:
    """with StreamServer(...) as s: s.port, s.seen. Words are tokens; a prompt of completions gets a BOS more."""

    def __init__(self, first_s=0.0, gap_s=0.0, usage=True, tokenize=True, fail=lambda n, body: None, extra=None,
                 meet=0):
        self.first_s, self.gap_s, self.usage, self.tokenize = first_s, gap_s, usage, tokenize
        self.fail = fail  # (number of the request from 0, its body) -> None, or (status, text), or "cut", "error", "empty"
        self.extra = extra or {}  # path -> text of further GET routes, or a function of the number of calls
        self.meet = meet  # all streams but the first one wait until so many are open at once
        self.seen = []  # (path, headers, body) of every POST of a stream
        self.calls = {}
        self.words = ["<bos>"]
        self.open = self.most_open = 0

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        self.met = asyncio.Event()
        started = threading.Event()

        def serve():
            asyncio.set_event_loop(self.loop)
            self.server = self.loop.run_until_complete(asyncio.start_server(self.connection, "127.0.0.1", 0, backlog=4096))
            self.port = self.server.sockets[0].getsockname()[1]
            started.set()
            self.loop.run_forever()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.server.close()
            self.loop.close()

        self.thread = threading.Thread(target=serve, daemon=True)
        self.thread.start()
        started.wait(120)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(120)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def connection(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, path, _ = head.split("\r\n")[0].split(" ")
                headers = {k.lower(): v for k, v in re.findall(r"^([^:\r\n]+): *([^\r\n]*)", head.split("\r\n", 1)[1], re.M)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self.answer(writer, method, path, headers, body):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        writer.close()

    @staticmethod
    def plain(writer, status, text, kind="application/json"):
        data = text.encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        return True

    def ids(self, text, bos):
        out = [0] if bos else []
        for word in re.findall(r" ?\w+|.", text, re.S):
            if word not in self.words:
                self.words.append(word)
            out.append(self.words.index(word))
        return out

    async def answer(self, writer, method, path, headers, body):
        self.calls[path] = self.calls.get(path, 0) + 1
        if path in self.extra:
            text = self.extra[path]
            return self.plain(writer, 200, text(self.calls[path]) if callable(text) else text, "text/plain")
        if path == "/v1/models":
            return self.plain(writer, 200, '{"object": "list", "data": [{"id": "org/scripted", "root": "/m"}]}')
        if path == "/tokenize" and self.tokenize:
            v = json.loads(body)
            ids = self.ids(v["prompt"], v["add_special_tokens"])
            return self.plain(writer, 200, json.dumps({"count": len(ids), "max_model_len": 4096, "tokens": ids}))
        if path == "/detokenize" and self.tokenize:
            return self.plain(writer, 200, json.dumps({"prompt": "".join(self.words[i] for i in json.loads(body)["tokens"])}))
        if method == "POST" and path.endswith("/completions"):
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            try:
                return await self.stream(writer, path, headers, json.loads(body))
            finally:
                self.open -= 1
        return self.plain(writer, 404, '{"error": {"message": "no such route"}}')

    async def stream(self, writer, path, headers, body):
        number = len(self.seen)
        self.seen.append((path, headers, body))
        bad = self.fail(number, body)
        if isinstance(bad, tuple):
            return self.plain(writer, bad[0], bad[1])
        chat = path.endswith("/chat/completions")
        tokens = body["max_completion_tokens"] if chat else body["max_tokens"]

        def send(text):
            data = f"data: {text}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))

        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        if self.meet and number:
            if self.open >= self.meet:
                self.met.set()
            await self.met.wait()
        await asyncio.sleep(self.first_s)
        for i in range(0 if bad == "empty" else tokens):
            if i:
                await asyncio.sleep(self.gap_s)
            if bad == "cut" and i == 1:
                return False
            if bad == "error" and i == 1:
                send('{"error": {"message": "engine is gone", "code": 500}}')
                break
            choice = {"index": 0, "finish_reason": None}
            choice.update({"delta": {"content": f" w{i}"}} if chat else {"text": f" w{i}"})
            send(json.dumps({"choices": [choice], "usage": None}))
            await writer.drain()
        if self.usage:
            send(json.dumps({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}}))
        send("[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True
