/*
 * Entry point: picks the subcommand from the table and runs it. "fathom help CMD", --help and
 * --version are handled here; an unknown command gets the nearest name.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"

const struct cli_command cli_commands[] = {
	{ "serve", &serve_table, cmd_serve },
	{ "run", &run_table, cmd_run },
	{ "complete", &complete_table, cmd_complete },
	{ "tokenize", &tokenize_table, cmd_tokenize },
	{ "detokenize", &detokenize_table, cmd_detokenize },
	{ "inspect", &inspect_table, cmd_inspect },
	{ "verify", &verify_table, cmd_verify },
	{ "bench model", &bench_model_table, cmd_bench_model },
	{ "bench kernel", &bench_kernel_table, cmd_bench_kernel },
	{ "bench load", &bench_load_table, cmd_bench_load },
	{ "bench latency", &bench_latency_table, cmd_bench_latency },
	{ "bench throughput", &bench_throughput_table, cmd_bench_throughput },
	{ "bench drafts", &bench_drafts_table, cmd_bench_drafts },
	{ "bench serve", &bench_serve_table, cmd_bench_serve },
	{ "bench tokenize", &bench_tokenize_table, cmd_bench_tokenize },
	{ "collect-env", &collect_env_table, cmd_collect_env },
	{ NULL, NULL, NULL },
};

/* Help on all commands, or on a group of them such as "bench". */
static int print_help(const char *group)
{
	size_t n = group ? strlen(group) : 0;
	struct buf b = { 0 };
	int rc;

	buf_printf(&b, "usage: fathom %s%sCOMMAND [options]\n\n"
		"Runs DeepSeek-V3.1 and its relatives from a checkpoint directory.\n\ncommands:\n",
		group ? group : "", group ? " " : "");
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		if (!group || (strncmp(c->name, group, n) == 0 && c->name[n] == ' '))
			buf_printf(&b, "  %-16s %s\n", c->name, c->table->summary);
	}
	buf_puts(&b, "\nfathom help COMMAND shows a command's options; fathom --version the version.\n");
	rc = cli_out_exit(&b);
	buf_deinit(&b);
	return rc;
}

/* How many words of argv name the command: 2 for "bench model". 0: not this one. */
static int match(const struct cli_command *c, int argc, char **argv)
{
	const char *space = strchr(c->name, ' ');
	size_t first = space ? (size_t)(space - c->name) : strlen(c->name);

	if (strlen(argv[0]) != first || strncmp(argv[0], c->name, first) != 0)
		return 0;
	if (!space)
		return 1;
	return argc > 1 && strcmp(argv[1], space + 1) == 0 ? 2 : 0;
}

static const struct cli_command *find(int argc, char **argv, int *words)
{
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		*words = match(c, argc, argv);
		if (*words)
			return c;
	}
	return NULL;
}

/* The first word of commands such as "bench model". */
static bool is_group(const char *word)
{
	size_t n = strlen(word);

	for (const struct cli_command *c = cli_commands; c->name; c++) {
		if (strncmp(c->name, word, n) == 0 && c->name[n] == ' ')
			return true;
	}
	return false;
}

static int no_member(int argc, char **argv)
{
	size_t n = strlen(argv[0]);
	struct buf members = { 0 };
	struct error err;

	for (const struct cli_command *c = cli_commands; c->name; c++) {
		if (strncmp(c->name, argv[0], n) == 0 && c->name[n] == ' ')
			buf_printf(&members, "%s%s", members.len ? ", " : "", c->name + n + 1);
	}
	error_set(&err, E_INVAL, "%s: found %.40s, expected one of: %s", argv[0],
		argc > 1 ? argv[1] : "nothing", members.data);
	buf_deinit(&members);
	return cli_usage_error(&err);
}

static int unknown_command(int argc, char **argv)
{
	const char *nearest = NULL;
	struct error err;
	int best = opt_near(argv[0]);

	if (is_group(argv[0]))
		return no_member(argc, argv);
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		int d = opt_distance(argv[0], c->name);

		if (d <= best) {
			best = d - 1;
			nearest = c->name;
		}
	}
	if (nearest)
		error_set(&err, E_INVAL, "unknown command '%.60s' (did you mean %s?)", argv[0], nearest);
	else
		error_set(&err, E_INVAL, "unknown command '%.60s' (see fathom --help)", argv[0]);
	return cli_usage_error(&err);
}

static int print_command_help(int argc, char **argv)
{
	const struct cli_command *c;
	struct buf b = { 0 };
	int words, rc;

	c = find(argc, argv, &words);
	if (!c && argc == 1 && is_group(argv[0]))
		return print_help(argv[0]);
	if (!c)
		return unknown_command(argc, argv);
	opt_help(&b, c->table);
	rc = cli_out_exit(&b);
	buf_deinit(&b);
	return rc;
}

int main(int argc, char **argv)
{
	const struct cli_command *c;
	struct buf version = { 0 };
	int words, rc;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		struct error err;

		error_set(&err, E_INVAL, "expected a command (see fathom --help)");
		return cli_usage_error(&err);
	}
	if (strcmp(argv[1], "--version") == 0) {
		buf_puts(&version, "fathom " FATHOM_VERSION "\n");
		rc = cli_out_exit(&version);
		buf_deinit(&version);
		return rc;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return print_help(NULL);
	if (strcmp(argv[1], "help") == 0)
		return argc == 2 ? print_help(NULL) : print_command_help(argc - 2, argv + 2);
	if (argc == 3 && is_group(argv[1]) && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0))
		return print_help(argv[1]);
	c = find(argc - 1, argv + 1, &words);
	if (!c)
		return unknown_command(argc - 1, argv + 1);
	return c->run(argc - 1 - words, argv + 1 + words);
}
