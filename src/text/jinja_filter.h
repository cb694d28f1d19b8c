/* Filters on sequences, for the table in jinja_filter.c. */
#ifndef TEXT_JINJA_FILTER_H
#define TEXT_JINJA_FILTER_H

#include "text/jinja_run.h"

typedef enum status filter_fn(struct jinja_run *r, struct jinja_value v,
	const struct jinja_args *args, struct jinja_value *out);

filter_fn jinja_filter_length, jinja_filter_first, jinja_filter_last, jinja_filter_list,
	jinja_filter_reverse, jinja_filter_join, jinja_filter_items, jinja_filter_map,
	jinja_filter_select, jinja_filter_reject, jinja_filter_selectattr, jinja_filter_rejectattr,
	jinja_filter_sort, jinja_filter_dictsort, jinja_filter_unique, jinja_filter_min,
	jinja_filter_max, jinja_filter_sum;

#endif
