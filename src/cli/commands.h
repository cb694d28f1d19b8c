/* Every subcommand: its option table and its function (see cli/cli.h). */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "base/opt.h"

extern const struct opt_table bench_model_table;
extern const struct opt_table bench_kernel_table;
extern const struct opt_table bench_load_table;
extern const struct opt_table bench_serve_table;
extern const struct opt_table collect_env_table;
extern const struct opt_table complete_table;
extern const struct opt_table bench_drafts_table;
extern const struct opt_table bench_latency_table;
extern const struct opt_table bench_throughput_table;
extern const struct opt_table bench_tokenize_table;
extern const struct opt_table detokenize_table;
extern const struct opt_table inspect_table;
extern const struct opt_table run_table;
extern const struct opt_table serve_table;
extern const struct opt_table tokenize_table;
extern const struct opt_table verify_table;

int cmd_bench_model(int argc, char **argv);
int cmd_bench_kernel(int argc, char **argv);
int cmd_bench_load(int argc, char **argv);
int cmd_bench_serve(int argc, char **argv);
int cmd_collect_env(int argc, char **argv);
int cmd_complete(int argc, char **argv);
int cmd_bench_drafts(int argc, char **argv);
int cmd_bench_latency(int argc, char **argv);
int cmd_bench_throughput(int argc, char **argv);
int cmd_bench_tokenize(int argc, char **argv);
int cmd_detokenize(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_verify(int argc, char **argv);

#endif
