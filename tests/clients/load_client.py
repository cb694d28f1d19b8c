"""Users of the server for locust: whole answers, streams read event by event, and clients that leave in the middle."""
import json
import os
import random

from locust import HttpUser, constant, events, task

HEADERS = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}


class Reader(HttpUser):
    wait_time = constant(0)

    def body(self, **more):
        return {"prompt": "fathom " * random.randint(1, 60), "max_tokens": random.randint(1, 40), "ignore_eos": True, **more}

    @task(2)
    def whole(self):
        body = self.body()
        with self.client.post("/v1/completions", json=body, headers=HEADERS, catch_response=True) as answer:
            if answer.status_code != 200 or answer.json()["usage"]["completion_tokens"] != body["max_tokens"]:
                answer.failure(answer.text[:200])

    @task(2)
    def stream(self):
        body = self.body(stream=True, stream_options={"include_usage": True})
        with self.client.post("/v1/completions", json=body, headers=HEADERS, stream=True, catch_response=True,
                              name="stream") as answer:
            lines = [line[6:] for line in answer.iter_lines() if line.startswith(b"data: ")]
            if lines[-1:] != [b"[DONE]"] or json.loads(lines[-2])["usage"]["completion_tokens"] != body["max_tokens"]:
                answer.failure("the stream has no proper end")

    @task(1)
    def leave(self):
        body = self.body(stream=True, max_tokens=1000)
        with self.client.post("/v1/completions", json=body, headers=HEADERS, stream=True, catch_response=True,
                              name="left early") as answer:
            for _, line in zip(range(8), answer.iter_lines()):
                if line and not line.startswith((b"data: ", b": ")):
                    answer.failure("not an event: " + repr(line[:80]))
            answer.close()


@events.quitting.add_listener
def exit_code(environment, **_):
    total = environment.stats.total
    environment.process_exit_code = int(total.num_failures > 0 or total.num_requests == 0)
