/* The bar: only on a terminal, only after two seconds, only when wanted, gone at the end. */
#include "cm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/progress.h"

static int saved_stderr;

static void open_terminal(int *screen, int *tty)
{
	if (openpty(screen, tty, NULL, NULL, NULL) != 0) {
		print_message("skipped: this system gives no pseudo terminals\n");
		skip();
	}
}

static void redirect(int fd)
{
	fflush(stderr);
	saved_stderr = dup(STDERR_FILENO);
	assert_true(dup2(fd, STDERR_FILENO) >= 0);
	close(fd);
}

static void restore(void)
{
	fflush(stderr);
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
}

/* What the terminal or pipe received since the last call: up to an end that must come, or, without one, what a tenth of a
 * second brings. */
static const char *received(int fd, const char *end)
{
	static char text[4096];
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t len = 0;
	int ready;

	fflush(stderr);
	/* A terminal hands its text over in pieces, a moment later. */
	for (text[0] = 0; len < sizeof(text) - 1 && !(end && strstr(text, end)); text[len] = 0) {
		ssize_t n;

		do
			ready = poll(&p, 1, end ? 120000 : 100);
		while (ready < 0 && errno == EINTR);
		n = ready == 1 && (p.revents & POLLIN) ? read(fd, text + len, sizeof(text) - 1 - len) : 0;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	return text;
}

static void test_terminal(void **state)
{
	struct progress p;
	const char *text;
	int screen, tty;
	bool early;

	open_terminal(&screen, &tty);
	redirect(tty);
	progress_begin(&p, "loading weights", 4000000000u, PROGRESS_BYTES, true);
	progress_update(&p, 1000000000u);
	p.begin_ns -= 1000000000u; /* as if a second had gone by */
	progress_update(&p, 1500000000u);
	early = clock_ns() - p.begin_ns < 2000000000u; /* it has not been more in truth */
	text = early ? received(screen, NULL) : "";
	if (*text) {
		restore();
		fail_msg("drawn before two seconds: %s", text);
	}
	p.begin_ns -= 1500000000u;
	p.drawn = false;
	progress_update(&p, 2000000000u);
	text = received(screen, "50 %  2.00 GB");
	restore();
	assert_non_null(strstr(text, "loading weights"));
	assert_non_null(strstr(text, "50 %"));
	assert_non_null(strstr(text, "2.00 GB"));
	assert_null(strchr(text, '\n'));
	close(screen);
}

static void test_erased(void **state)
{
	struct progress p;
	const char *text;
	int screen, tty;

	open_terminal(&screen, &tty);
	redirect(tty);
	progress_begin(&p, "prompt", 100, PROGRESS_COUNT, true);
	p.begin_ns -= 3000000000u; /* as if it had begun three seconds ago */
	progress_update(&p, 10);
	p.drawn_ns += 1000000000u; /* however slow this machine is */
	progress_update(&p, 11); /* within a tenth of a second: not redrawn */
	progress_end(&p);
	restore();
	text = received(screen, "\r\033[K");
	assert_non_null(strstr(text, "10 %"));
	assert_null(strstr(text, "11 %"));
	assert_string_equal(text + strlen(text) - 7, "\033[K\r\033[K");
	close(screen);
}

static void test_no_terminal(void **state)
{
	struct progress p;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	redirect(ends[1]);
	progress_begin(&p, "prompt", 100, PROGRESS_COUNT, true);
	p.begin_ns -= 3000000000u;
	progress_update(&p, 50);
	progress_end(&p);
	restore();
	assert_string_equal(received(ends[0], NULL), "");
	close(ends[0]);
}

static void test_not_wanted(void **state)
{
	struct progress p;
	int screen, tty;

	open_terminal(&screen, &tty);
	redirect(tty);
	progress_begin(&p, "prompt", 100, PROGRESS_COUNT, false);
	p.begin_ns -= 3000000000u;
	progress_update(&p, 50);
	progress_end(&p);
	restore();
	assert_string_equal(received(screen, NULL), "");
	close(screen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_terminal),
		cmocka_unit_test(test_erased),
		cmocka_unit_test(test_no_terminal),
		cmocka_unit_test(test_not_wanted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
