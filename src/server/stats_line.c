/* The periodic log line, with vLLM's words (spec: serving, section 3). */
#include "base/clock.h"
#include "base/log.h"
#include "server/serving_int.h"

static double rate(uint64_t now, uint64_t before, double seconds)
{
	return seconds > 0 ? (double)(now - before) / seconds : 0;
}

void stats_line_write(struct serving *s)
{
	struct engine_stats now = engine_get_stats(s->engine), *last = &s->last_stats;
	double at = clock_s(), seconds = at - s->last_stats_at;
	double prompt = rate(now.prompt_tokens, last->prompt_tokens, seconds);
	double generated = rate(now.generated_tokens, last->generated_tokens, seconds);
	bool idle = prompt == 0 && generated == 0 && now.running == 0 && now.waiting == 0;

	enum log_level level = idle ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;

	if (log_on(level))
		log_write(level, "server",
		"Engine 000: Avg prompt throughput: %.1f tokens/s, Avg generation throughput: %.1f tokens/s, "
		"Running: %llu reqs, Waiting: %llu reqs, GPU KV cache usage: %.1f%%, Prefix cache hit rate: %.1f%%",
		prompt, generated, (unsigned long long)now.running, (unsigned long long)now.waiting,
		now.blocks ? 100.0 * (double)(now.blocks - now.blocks_free) / (double)now.blocks : 0.0,
		now.prefix_query_tokens ?
			100.0 * (double)now.prefix_hit_tokens / (double)now.prefix_query_tokens : 0.0);
	s->last_stats = now;
	s->last_stats_at = at;
}
