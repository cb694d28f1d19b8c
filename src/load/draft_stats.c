/* Speculation counters (load/draft_stats.h): the lines of Prometheus' text format that matter here. */
#include "load/draft_stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "vllm:spec_decode_num_"

/* "position="3"" among the labels; false without. */
static bool position_of(uint32_t *out, const char *labels, size_t len)
{
	static const char key[] = "position=\"";
	const char *at = len ? memmem(labels, len, key, strlen(key)) : NULL;
	unsigned long v;
	char *end;

	if (!at)
		return false;
	at += strlen(key);
	v = strtoul(at, &end, 10);
	if (end == at || *end != '"' || v >= DRAFT_MAX_POSITIONS)
		return false;
	*out = (uint32_t)v;
	return true;
}

static bool is(const char *name, size_t len, const char *want)
{
	return len == strlen(want) && memcmp(name, want, len) == 0;
}

/* One line without its newline, NUL-terminated; true when it is one of ours. */
static bool take_line(struct draft_stats *s, const char *line)
{
	size_t prefix = strlen(PREFIX), name, labels = 0;
	uint32_t position;
	double v;
	char *end;

	if (strncmp(line, PREFIX, prefix) != 0)
		return false;
	line += prefix;
	name = strcspn(line, "{ ");
	if (line[name] == '{') {
		const char *close = strrchr(line + name, '}');

		if (!close)
			return false;
		labels = (size_t)(close + 1 - line) - name;
	}
	v = strtod(line + name + labels, &end);
	if (end == line + name + labels || !isfinite(v))
		return false;
	if (is(line, name, "drafts_total"))
		s->drafts += v;
	else if (is(line, name, "draft_tokens_total"))
		s->draft_tokens += v;
	else if (is(line, name, "accepted_tokens_total"))
		s->accepted_tokens += v;
	else if (is(line, name, "accepted_tokens_per_pos_total") && position_of(&position, line + name, labels)) {
		s->accepted_at[position] += v;
		if (position >= s->n_positions)
			s->n_positions = position + 1;
	} else
		return false;
	return true;
}

bool draft_stats_read(struct draft_stats *out, const char *metrics, size_t len)
{
	struct draft_stats s = { 0 };
	bool any = false;

	for (size_t at = 0; at < len;) {
		const char *nl = memchr(metrics + at, '\n', len - at);
		size_t n = nl ? (size_t)(nl - metrics) - at : len - at;
		char line[1024];

		if (n < sizeof(line)) {
			memcpy(line, metrics + at, n);
			line[n] = 0;
			any |= take_line(&s, line);
		}
		at += n + 1;
	}
	if (any)
		*out = s;
	return any;
}

bool draft_stats_since(struct draft_stats *after, const struct draft_stats *before)
{
	after->drafts -= before->drafts;
	after->draft_tokens -= before->draft_tokens;
	after->accepted_tokens -= before->accepted_tokens;
	for (uint32_t i = 0; i < before->n_positions; i++)
		after->accepted_at[i] -= before->accepted_at[i];
	return after->drafts > 0;
}

double draft_stats_rate(const struct draft_stats *s)
{
	return s->draft_tokens > 0 ? 100 * s->accepted_tokens / s->draft_tokens : 0;
}

double draft_stats_length(const struct draft_stats *s)
{
	return s->drafts > 0 ? 1 + s->accepted_tokens / s->drafts : 0;
}

double draft_stats_at(const struct draft_stats *s, uint32_t position)
{
	return s->drafts > 0 ? s->accepted_at[position] / s->drafts : 0;
}
