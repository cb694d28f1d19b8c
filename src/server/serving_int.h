/* What the files of the server share: its state, and the routes' handlers. */
#ifndef SERVER_SERVING_INT_H
#define SERVER_SERVING_INT_H

#include <stdatomic.h>
#include <time.h>

#include "http/loop.h"
#include "server/call.h"
#include "server/metrics.h"
#include "server/sampling_defaults.h"
#include "server/serving.h"

/* Choices of one request: prompts times n. */
#define SERVING_MAX_N 128
#define SERVING_MAX_PROMPTS 1024
#define SERVING_MAX_CHOICES 4096
/* Of the prompts of one request, of all choices: 256 MiB. */
#define SERVING_MAX_PROMPT_LOGPROBS (1u << 24)
/* That the JSON of requests in flight takes, beside their bodies. */
#define SERVING_MAX_JSON_BYTES ((size_t)1 << 30)

struct answer;
struct structured;
struct worker;

struct serving {
	const struct serving_options *o;
	struct http_loop *loop;
	struct http_bell *bell; /* rung by the engine */
	struct http_server *http;
	struct http_tls *tls;
	struct http_timer *tick;  /* keep-alive comments */
	struct http_timer *stats; /* the periodic log line */
	struct engine *engine;
	const struct tokenizer *tok;
	struct tokenizer_scratch *scratch; /* of the loop's thread */
	struct worker *worker;             /* owned; has its own */
	struct chat_format format; /* how the model writes reasoning and calls */
	uint32_t vocab;   /* ids below this may be in a prompt */
	uint32_t n_ids;   /* and below this may be generated */
	uint32_t max_model_len;
	size_t max_token_bytes; /* of the longest token: longer texts cannot fit the context */
	struct sampling_defaults defaults;
	struct structured *structured; /* owned */
	struct metrics metrics;
	struct engine_stats last_stats;
	double last_stats_at;
	uint64_t news_ns;       /* when the news were taken that are being told */
	struct answer *answers; /* all that have jobs in the engine */
	uint32_t load;          /* requests in flight, but those that are answered at once */
	atomic_size_t json_bytes;
	time_t created;
	bool stopping;
};

/* Name that answers carry. */
static inline const char *serving_name(const struct serving *s)
{
	return s->o->names[0];
}

/* Whether the engine makes progress: false when a step that is due has not ended for a minute. */
bool serving_healthy(const struct serving *s);

/* Handlers of routes (routes.c): answer the call now, or later through an answer. */
void handle_health(struct call *c);
void handle_reset_prefix_cache(struct call *c);
void handle_version(struct call *c);
void handle_load(struct call *c);
void handle_metrics(struct call *c);
void handle_models(struct call *c);
void handle_page(struct call *c);
void handle_completions(struct call *c);
void handle_chat(struct call *c);
void handle_messages(struct call *c);
void handle_responses(struct call *c);
void handle_tokenize(struct call *c);
void handle_count_tokens(struct call *c);
void handle_detokenize(struct call *c);
void handle_tokenizer_info(struct call *c);

/* Of http_server_config. A request is refused, or answered where its route takes no body, from its head. */
void routes_head(struct http_request *r, void *arg);
void routes_handle(struct http_request *r, void *arg);
/* Bodies of what http/ refuses by itself. */
void routes_refusal(void *arg, const char *path, unsigned status, const char *why, struct buf *body);

/* One line each ten seconds (stats_line.c). */
void stats_line_write(struct serving *s);

#endif
