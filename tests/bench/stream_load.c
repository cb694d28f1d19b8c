/*
 * Many streams from one server, and what they cost it: the client of serve_bench.py.
 *
 *   stream_load PORT PID STREAMS TOKENS SECONDS MODE REQUEST [TRACE]
 *
 * Opens STREAMS connections to 127.0.0.1:PORT, posts REQUEST (JSON, without its closing brace: the stream's number
 * follows as "seed") on each, waits until each has a token, and measures for SECONDS. The CPU time is that of the main
 * thread of process PID, as the kernel counts it. TRACE, [STREAMS][TOKENS] of CLOCK_REALTIME in nanoseconds, has the
 * time at which the engine published each token; a token has left when the kernel's loopback got it, which is the
 * kernel's own time stamp and hence not this program's delay.
 *
 * PID 0 measures the limit instead: a thread of this program that holds the same connections and does nothing but
 * send() events of TOKENS bytes. MODE "fast": as fast as it can; a number: all streams at once, each so many
 * milliseconds, woken through an eventfd as the server is. Prints one line of JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_STREAMS 16384
#define MAX_LATENCIES 4000000u
#define MAX_EVENT 65536u
#define MARK "\"content\":\""
#define MARK_BYTES (sizeof(MARK) - 1)

struct stream {
	int fd;
	uint32_t seen;      /* tokens */
	uint32_t in_window; /* events */
	bool in_text;       /* within the text of an event */
	char tail[MARK_BYTES]; /* the last bytes of the last read */
	size_t n_tail;
};

struct load {
	struct stream *streams;
	uint32_t n, n_started, n_tokens;
	int epoll;
	const uint64_t *trace;
	uint64_t *latencies, n_latencies; /* ns */
	uint64_t events, tokens, reads, bytes;
	bool measuring, broken;
};

/* What stands in for the server when the limit is measured. */
struct bare {
	int listener, bell;
	int fds[MAX_STREAMS];
	uint32_t n;
	size_t event_bytes;
	long period_ms; /* 0: as fast as it can */
	pthread_t writer, publisher;
	atomic_int tid;
	atomic_bool stop;
	_Atomic uint64_t published;
	uint64_t *trace;
	uint32_t n_tokens;
};

static void die(const char *what)
{
	fprintf(stderr, "stream_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Nanoseconds that a thread has run. */
static uint64_t cpu_ns(int pid, int tid)
{
	unsigned long long ns = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid, tid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%llu", &ns) != 1)
		die(path);
	fclose(f);
	return ns;
}

/* Of them in the program itself, not in the kernel; counted in ticks, hence for seconds alone. */
static double user_s(int pid, int tid)
{
	unsigned long ticks = 0;
	char path[64], text[1024];
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	f = fopen(path, "re");
	if (!f)
		die(path);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	/* Fields are counted from the end of the name, which may hold anything. */
	if (!strrchr(text, ')') || sscanf(strrchr(text, ')') + 1, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lu", &ticks) != 1)
		die(path);
	return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static uint64_t resident_kib(int pid)
{
	unsigned long long kib = 0;
	char line[256], path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		die(path);
	while (fgets(line, sizeof(line), f) && sscanf(line, "VmRSS: %llu", &kib) != 1)
		;
	fclose(f);
	return kib;
}

/* ---- the limit ---- */

static void *bare_publish(void *arg)
{
	struct bare *b = arg;
	const uint64_t one = 1, period = (uint64_t)b->period_ms * 1000000;

	for (uint32_t i = 0; i < b->n_tokens && !atomic_load(&b->stop); i++) {
		uint64_t wait = period - now_ns(CLOCK_MONOTONIC) % period;
		struct timespec t = { .tv_nsec = (long)(wait % 1000000000), .tv_sec = (time_t)(wait / 1000000000) };

		nanosleep(&t, NULL);
		for (uint32_t k = 0; k < b->n; k++)
			b->trace[(size_t)k * b->n_tokens + i] = now_ns(CLOCK_REALTIME);
		atomic_store(&b->published, i + 1);
		if (write(b->bell, &one, sizeof(one)) < 0)
			die("eventfd");
	}
	return NULL;
}

static size_t make_event(char *out, size_t bytes)
{
	static const char begin[] = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"filler\":\"", end[] = "\"}\n\n\r\n";
	size_t head = (size_t)sprintf(out, "%zx\r\n", bytes);
	size_t most = head + sizeof(begin) - 1 + sizeof(end) - 1;

	memcpy(out + head, begin, sizeof(begin) - 1);
	if (bytes < most)
		bytes = most;
	memset(out + head + sizeof(begin) - 1, 'x', bytes - most);
	memcpy(out + bytes - (sizeof(end) - 1), end, sizeof(end) - 1);
	return bytes;
}

static void bare_accept(struct bare *b)
{
	char request[4096];

	for (uint32_t i = 0; i < b->n; i++) {
		int one = 1;

		b->fds[i] = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC);
		if (b->fds[i] < 0 || recv(b->fds[i], request, sizeof(request), 0) <= 0)
			die("accept");
		setsockopt(b->fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		fcntl(b->fds[i], F_SETFL, O_NONBLOCK);
	}
}

static void *bare_write(void *arg)
{
	static char event[MAX_EVENT + 256];
	struct bare *b = arg;
	size_t bytes = make_event(event, b->event_bytes);
	uint64_t sent = 0, count;

	bare_accept(b);
	atomic_store(&b->tid, gettid());
	if (b->period_ms)
		pthread_create(&b->publisher, NULL, bare_publish, b);
	while (!atomic_load(&b->stop)) {
		if (b->period_ms && sent == atomic_load(&b->published)) {
			if (read(b->bell, &count, sizeof(count)) < 0)
				die("eventfd");
			continue;
		}
		for (uint32_t i = 0; i < b->n; i++)
			if (send(b->fds[i], event, bytes, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
				die("send");
		sent++;
	}
	return NULL;
}

static uint16_t bare_open(struct bare *b)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t size = sizeof(at);

	b->bell = eventfd(0, EFD_CLOEXEC);
	b->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(b->listener, (struct sockaddr *)&at, sizeof(at)) || listen(b->listener, 1024) ||
		getsockname(b->listener, (struct sockaddr *)&at, &size))
		die("listen");
	pthread_create(&b->writer, NULL, bare_write, b);
	return ntohs(at.sin_port);
}

/* ---- the streams ---- */

static int open_stream(uint16_t port, uint32_t nth, const char *request)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port),
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int stamps = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
	char body[4096], text[8192];
	int len;

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		die("connect");
	setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof(stamps));
	snprintf(body, sizeof(body), "%s,\"seed\":%u}", request, nth);
	len = snprintf(text, sizeof(text), "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
		"Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
	if (send(fd, text, (size_t)len, MSG_NOSIGNAL) != len)
		die("send");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void note_token(struct load *l, const struct stream *s, uint64_t arrived)
{
	uint32_t row = (uint32_t)(s - l->streams);
	uint64_t published = s->seen < l->n_tokens ? l->trace[(size_t)row * l->n_tokens + s->seen] : 0;

	if (published && arrived && l->n_latencies < MAX_LATENCIES)
		l->latencies[l->n_latencies++] = arrived > published ? arrived - published : 0;
}

/* Every byte of the text of a delta is one token, as the answer was chosen. */
static void take_text(struct load *l, struct stream *s, const char *data, size_t len, uint64_t arrived)
{
	const char *end = data + len;

	while (data < end) {
		if (!s->in_text) {
			data = memmem(data, (size_t)(end - data), MARK, MARK_BYTES);
			if (!data)
				return;
			data += MARK_BYTES;
			s->in_text = true;
			if (data < end && *data != '"') {
				l->events += l->measuring;
				s->in_window += l->measuring;
			}
		}
		for (; data < end && *data != '"'; data++) {
			if (l->measuring && l->trace)
				note_token(l, s, arrived);
			l->n_started += s->seen++ == 0;
			l->tokens += l->measuring;
		}
		s->in_text = data == end;
	}
}

/* A mark may lie across two reads: the end of the last one is put in front of this one. */
static void take(struct load *l, struct stream *s, char *data, size_t len, uint64_t arrived)
{
	size_t keep = MARK_BYTES - 1, from = s->in_text ? 0 : s->n_tail;

	memcpy(data - from, s->tail + s->n_tail - from, from);
	take_text(l, s, data - from, len + from, arrived);
	s->n_tail = len < keep ? len : keep;
	memcpy(s->tail, data + len - s->n_tail, s->n_tail);
}

static uint64_t stamp_of(struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct timespec t;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_TIMESTAMPING)
			continue;
		memcpy(&t, CMSG_DATA(c), sizeof(t));
		return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
	}
	return 0;
}

static void read_stream(struct load *l, struct stream *s)
{
	static char buffer[sizeof(s->tail) + 65536];
	union {
		char bytes[256];
		struct cmsghdr align;
	} control;
	struct iovec v = { buffer + sizeof(s->tail), 65536 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes,
		.msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(s->fd, &m, 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		l->broken = true;
		return;
	}
	l->reads += l->measuring;
	l->bytes += l->measuring ? (uint64_t)n : 0;
	take(l, s, v.iov_base, (size_t)n, stamp_of(&m));
}

/* Reads what comes until `until`, or until every stream has begun. */
static void read_all(struct load *l, uint64_t until, bool starting)
{
	struct epoll_event events[256];

	while (now_ns(CLOCK_MONOTONIC) < until && !l->broken && !(starting && l->n_started == l->n)) {
		int n = epoll_wait(l->epoll, events, 256, 10);

		for (int i = 0; i < n; i++)
			read_stream(l, events[i].data.ptr);
	}
}

static void open_all(struct load *l, uint16_t port, const char *request)
{
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	for (uint32_t i = 0; i < l->n; i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = &l->streams[i] };

		l->streams[i].fd = open_stream(port, i, request);
		if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->streams[i].fd, &e))
			die("epoll_ctl");
		if (i % 64 == 63) /* what has begun must not fill its socket meanwhile */
			read_all(l, now_ns(CLOCK_MONOTONIC) + 1000000, true);
	}
	read_all(l, now_ns(CLOCK_MONOTONIC) + 60000000000u, true);
	if (l->broken || l->n_started < l->n) {
		fprintf(stderr, "stream_load: %u of %u streams began\n", l->n_started, l->n);
		exit(1);
	}
}

/* ---- the result ---- */

static int compare(const void *x, const void *y)
{
	uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	return (a > b) - (a < b);
}

static double percentile_us(const struct load *l, unsigned p)
{
	return l->n_latencies ? (double)l->latencies[l->n_latencies * p / 100] * 1e-3 : 0;
}

static void report(struct load *l, double seconds, double cpu_s, double in_user_s, double client_s, int64_t kib)
{
	uint32_t live = 0;

	for (uint32_t i = 0; i < l->n; i++)
		live += l->streams[i].in_window > 0;
	qsort(l->latencies, l->n_latencies, sizeof(*l->latencies), compare);
	printf("{\"streams\":%u,\"live\":%u,\"seconds\":%.6f,\"events\":%llu,\"tokens\":%llu,\"reads\":%llu,\"bytes\":%llu,"
		"\"cpu_s\":%.6f,\"user_s\":%.3f,\"client_s\":%.6f,\"kib\":%lld,\"n_latencies\":%llu,\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
		l->n, live, seconds, (unsigned long long)l->events, (unsigned long long)l->tokens,
		(unsigned long long)l->reads, (unsigned long long)l->bytes, cpu_s, in_user_s, client_s, (long long)kib,
		(unsigned long long)l->n_latencies, percentile_us(l, 50), percentile_us(l, 99));
}

static const uint64_t *map_trace(const char *path, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *p = fd < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		die(path);
	return p;
}

static void measure(struct load *l, struct bare *b, int pid, double seconds, uint64_t kib_before)
{
	int of = pid ? pid : getpid(), tid = pid ? pid : atomic_load(&b->tid);
	uint64_t cpu = cpu_ns(of, tid), client = now_ns(CLOCK_THREAD_CPUTIME_ID), begin = now_ns(CLOCK_MONOTONIC), took;
	double cpu_s, client_s, in_user_s = user_s(of, tid);

	l->measuring = true;
	read_all(l, begin + (uint64_t)(seconds * 1e9), false);
	took = now_ns(CLOCK_MONOTONIC) - begin;
	cpu_s = (double)(cpu_ns(of, tid) - cpu) * 1e-9;
	client_s = (double)(now_ns(CLOCK_THREAD_CPUTIME_ID) - client) * 1e-9;
	if (l->broken) {
		fprintf(stderr, "stream_load: a stream ended before the measurement did\n");
		exit(1);
	}
	in_user_s = user_s(of, tid) - in_user_s;
	report(l, (double)took * 1e-9, cpu_s, in_user_s, client_s, (int64_t)resident_kib(of) - (int64_t)kib_before);
}

int main(int argc, char **argv)
{
	struct load l = { 0 };
	static struct bare b;
	uint64_t kib;
	uint16_t port;
	int pid;

	if (argc < 8 || argc > 9 || (l.n = (uint32_t)atoi(argv[3])) == 0 || l.n > MAX_STREAMS) {
		fprintf(stderr, "usage: stream_load PORT PID STREAMS TOKENS SECONDS MODE REQUEST [TRACE]\n");
		return 2;
	}
	port = (uint16_t)atoi(argv[1]);
	pid = atoi(argv[2]);
	l.n_tokens = (uint32_t)atoi(argv[4]);
	l.streams = calloc(l.n, sizeof(*l.streams));
	l.latencies = malloc(MAX_LATENCIES * sizeof(*l.latencies));
	if (!l.streams || !l.latencies)
		die("memory");
	if (!pid) {
		b = (struct bare){ .n = l.n, .event_bytes = l.n_tokens < MAX_EVENT ? l.n_tokens : MAX_EVENT,
			.period_ms = atol(argv[6]), .n_tokens = 20000 };
		l.n_tokens = b.n_tokens;
		if (b.period_ms) {
			b.trace = calloc((size_t)l.n * b.n_tokens, sizeof(*b.trace));
			l.trace = b.trace;
		}
		port = bare_open(&b);
	} else if (argc == 9) {
		l.trace = map_trace(argv[8], (size_t)l.n * l.n_tokens * sizeof(*l.trace));
	}
	kib = resident_kib(pid ? pid : getpid());
	open_all(&l, port, argv[7]);
	measure(&l, &b, pid, atof(argv[5]), kib);
	fflush(stdout);
	_exit(0); /* the writer is in the middle of a send */
}
