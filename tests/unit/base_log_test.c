/* Log lines: format, levels, cutting, and that lines of many threads never mix. */
#include "cm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static int saved_stderr;
static FILE *capture;

static void capture_begin(void)
{
	capture = tmpfile();
	assert_non_null(capture);
	saved_stderr = dup(STDERR_FILENO);
	assert_true(dup2(fileno(capture), STDERR_FILENO) >= 0);
}

/* What was written, to be freed by the caller. */
static char *capture_end(void)
{
	long n = lseek(fileno(capture), 0, SEEK_END);
	char *text = calloc(1, (size_t)n + 1);

	assert_int_equal(pread(fileno(capture), text, (size_t)n, 0), n);
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	fclose(capture);
	return text;
}

/* Checks the prefix of a line; returns what follows "] ". */
static const char *after_time(const char *line)
{
	const char *end = strstr(line, "] ");
	char *rest;

	assert_int_equal(line[0], '[');
	assert_non_null(end);
	assert_true(strtod(line + 1, &rest) >= 0);
	assert_ptr_equal(rest, end);
	return end + 2;
}

static void test_format(void **state)
{
	char *text;

	log_set_level(LOG_LEVEL_INFO);
	capture_begin();
	errno = ENOENT;
	log_info("engine", "context %d blocks %d", 8192, 128);
	log_error("weights", "open: %m");
	log_text(LOG_LEVEL_WARN, "cli", "interrupted");
	assert_int_equal(errno, ENOENT);
	text = capture_end();
	assert_memory_equal(after_time(text), "info engine: context 8192 blocks 128\n", 37);
	assert_non_null(strstr(text, "] error weights: open: No such file or directory\n"));
	assert_non_null(strstr(text, "] warn cli: interrupted\n"));
	free(text);
}

static int evaluated;

static int evaluate(void)
{
	return ++evaluated;
}

static void test_levels(void **state)
{
	char *text;

	for (int now = 0; now < LOG_LEVEL_COUNT; now++) {
		int lines = 0;

		log_set_level((enum log_level)now);
		assert_int_equal(log_get_level(), now);
		evaluated = 0;
		capture_begin();
		log_error("t", "%d", evaluate());
		log_warn("t", "%d", evaluate());
		log_info("t", "%d", evaluate());
		log_debug("t", "%d", evaluate());
		log_trace("t", "%d", evaluate());
		log_text(LOG_LEVEL_TRACE, "t", "x");
		text = capture_end();
		for (const char *p = text; (p = strchr(p, '\n')); p++)
			lines++;
		assert_int_equal(evaluated, now + 1);
		assert_int_equal(lines, now + 1 + (now == LOG_LEVEL_TRACE));
		free(text);
	}
	log_set_level(LOG_LEVEL_INFO);
}

static void test_names(void **state)
{
	char choices[64] = "";

	for (int i = 0; i < LOG_LEVEL_COUNT; i++) {
		const char *name = log_level_name((enum log_level)i);

		assert_int_equal(log_level_parse(name), i);
		strcat(choices, i ? "|" : "");
		strcat(choices, name);
	}
	assert_string_equal(choices, LOG_LEVEL_CHOICES);
	assert_int_equal(log_level_parse("loud"), LOG_LEVEL_COUNT);
	assert_int_equal(log_level_parse(""), LOG_LEVEL_COUNT);
}

static void test_cut_and_control(void **state)
{
	char big[3000], *text;

	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	capture_begin();
	log_info("t", "%s", big);
	text = capture_end();
	assert_int_equal(strlen(text), LOG_LINE_BYTES);
	assert_string_equal(text + LOG_LINE_BYTES - 5, "a...\n");
	free(text);

	capture_begin();
	log_text(LOG_LEVEL_INFO, "t", big);
	text = capture_end();
	assert_int_equal(strlen(text), LOG_LINE_BYTES);
	free(text);

	/* A message from outside can forge neither a line nor a terminal command. */
	capture_begin();
	log_info("t", "a\n[ 1.0] error t: b\033[2J\x7F\xC3\xA9");
	text = capture_end();
	assert_string_equal(after_time(text), "info t: a?[ 1.0] error t: b?[2J?\xC3\xA9\n");
	free(text);
}

#define THREADS 4
#define LINES 500

static void *write_lines(void *arg)
{
	for (int i = 0; i < LINES; i++)
		log_info("t", "thread %d line %d %0*d end", *(int *)arg, i, 1 + i % 200, 0);
	return NULL;
}

/* Every line is whole, and every thread's lines are in order. */
static void test_threads(void **state)
{
	pthread_t id[THREADS];
	int index[THREADS], next[THREADS] = {0};
	char *text, *save;

	capture_begin();
	for (int i = 0; i < THREADS; i++) {
		index[i] = i;
		assert_int_equal(pthread_create(&id[i], NULL, write_lines, &index[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(id[i], NULL);
	text = capture_end();
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		int thread, number, at = 0;

		assert_int_equal(sscanf(after_time(line), "info t: thread %d line %d %*s end%n",
					 &thread, &number, &at),
			2);
		assert_true(at > 0 && after_time(line)[at] == 0);
		assert_in_range(thread, 0, THREADS - 1);
		assert_int_equal(number, next[thread]++);
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(next[i], LINES);
	free(text);
}

static void on_signal(int number)
{
	log_text(LOG_LEVEL_WARN, "signal", "caught");
}

static void test_signal(void **state)
{
	char *text;

	signal(SIGUSR1, on_signal);
	capture_begin();
	raise(SIGUSR1);
	text = capture_end();
	assert_string_equal(after_time(text), "warn signal: caught\n");
	free(text);
	signal(SIGUSR1, SIG_DFL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_cut_and_control),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
