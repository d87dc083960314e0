// SPDX-License-Identifier: GPL-3.0-or-later
/* What the main options mean: their values go into the cli's state, and `show` reads them back. */
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "cli/options.h"

static struct asc_error *bad_value(int key, const char *value, const char *want)
{
	ASC_AUTO(asc_freep) char *shown = asc_escape(value);

	return asc_err_id(asc_err(ASC_EUSAGE, "--%s=%.100s: wanted %s", asc_main_opt_of(key)->name,
				  shown ? shown : "?", want),
			  "E-USAGE");
}

/* Index of @p value in "a|b|c". */
static struct asc_error *choice(int key, const char *value, int *ret)
{
	const struct asc_main_opt *o = asc_main_opt_of(key);
	int i = 0;

	for (const char *p = o->choices; *p; i++) {
		size_t n = strcspn(p, "|");
		if (n == strlen(value) && !memcmp(p, value, n)) {
			*ret = i;
			return NULL;
		}
		p += n + (p[n] != 0);
	}
	return bad_value(key, value, o->choices);
}

static struct asc_error *take_ms(int key, const char *value, uint64_t *ret)
{
	if (!asc_parse_ms(value, ret))
		return bad_value(key, value, "a time (500ms, 5s, 2m)");
	return NULL;
}

static struct asc_error *take_pid(const char *value, pid_t *ret)
{
	uint64_t v;

	if (!asc_parse_u64(value, &v) || v == 0 || v > INT_MAX)
		return bad_value('p', value, "a process id");
	*ret = (pid_t)v;
	return NULL;
}

static struct asc_error *push_item(struct asc_cli *c, bool is_file, const char *text)
{
	struct asc_batch_item item = { .is_file = is_file, .text = text };

	return asc_vec_push(&c->batch_items, item);
}

struct asc_error *asc_option_set(struct asc_cli *c, int key, const char *value)
{
	struct asc_session_opts *so = &c->so;
	uint64_t ms = 0;
	int n = 0;

	switch (key) {
	case 'p':
		return take_pid(value, &so->pid);
	case 'c':
		so->core = value;
		return NULL;
	case 'e':
		so->exe = so->symbols.exe = value;
		return NULL;
	case KEY_ROOT:
		so->symbols.root = value;
		return NULL;
	case KEY_DEBUG_DIR:
		so->symbols.debug_dir = value;
		return NULL;
	case KEY_LIBC:
		so->symbols.libc = value;
		return NULL;
	case KEY_DEBUGINFOD:
		ASC_TRY(choice(key, value, &n));
		so->symbols.debuginfod = (const enum asc_debuginfod[]){ ASC_DEBUGINFOD_ASK,
									ASC_DEBUGINFOD_ON,
									ASC_DEBUGINFOD_OFF }[n];
		return NULL;
	case KEY_SYMBOLS_TIMEOUT:
		ASC_TRY(take_ms(key, value, &ms));
		so->symbols.timeout_ms = (unsigned)asc_min(ms, UINT_MAX);
		return NULL;
	case KEY_MAX_PAUSE:
		return take_ms(key, value, &so->max_pause_ms);
	case KEY_CAPTURE:
		ASC_TRY(choice(key, value, &n));
		so->capture = (enum asc_capture_mode)n;
		return NULL;
	case KEY_NO_STOP:
		so->no_stop = true;
		return NULL;
	case KEY_HOLD:
		so->hold = true;
		return NULL;
	case 'y':
		so->yes = true;
		return NULL;
	case 'n':
		so->dry_run = true;
		return NULL;
	case KEY_WAIT:
		return take_ms(key, value, &so->wait_ms);
	case KEY_FORCE:
		so->force = true;
		return NULL;
	case KEY_MAX_MEMORY:
		if (!asc_parse_bytes(value, &so->max_memory))
			return bad_value(key, value, "a size (500M, 2GiB)");
		return NULL;
	case 'x':
		return push_item(c, true, value);
	case KEY_EX:
		return push_item(c, false, value);
	case 'b':
		c->batch = true;
		return NULL;
	case KEY_KEEP_GOING:
		c->keep_going = true;
		return NULL;
	case 'f':
		ASC_TRY(choice(key, value, &n));
		c->lo.format = (enum asc_format)n;
		return NULL;
	case 'j':
		c->lo.format = ASC_JSON;
		return NULL;
	case KEY_JSONL:
		c->lo.format = ASC_JSONL;
		return NULL;
	case 'o':
		c->output = value;
		return NULL;
	case KEY_BYTES:
		c->lo.exact_bytes = true;
		return NULL;
	case KEY_COLOR:
		ASC_TRY(choice(key, value, &n));
		c->lo.color = (enum asc_color_mode)n;
		return NULL;
	case KEY_ASCII:
		c->lo.ascii = true;
		return NULL;
	case KEY_NO_PAGER:
		c->lo.no_pager = true;
		return NULL;
	case 'q':
		so->quiet = true;
		return NULL;
	case 'v':
		so->verbose = true;
		return NULL;
	case KEY_PROGRESS:
		ASC_TRY(choice(key, value, &n));
		so->progress = n == 0 && isatty(STDERR_FILENO);
		return NULL;
	default:
		return asc_err(ASC_EBUG, "option %d", key);
	}
}

static const char *choice_name(int key, unsigned i, char *buf, size_t size)
{
	const char *p = asc_main_opt_of(key)->choices;

	while (i--)
		p += strcspn(p, "|") + 1;
	snprintf(buf, size, "%.*s", (int)strcspn(p, "|"), p);
	return buf;
}

static const char *yes_no(bool v)
{
	return v ? "on" : "off";
}

const char *asc_option_show(const struct asc_cli *c, int key, char *buf, size_t size)
{
	switch (key) {
	case 'f':
		return choice_name('f', (unsigned)c->lo.format, buf, size);
	case KEY_COLOR:
		return choice_name(key, (unsigned)c->lo.color, buf, size);
	case KEY_CAPTURE:
		return choice_name(key, (unsigned)c->so.capture, buf, size);
	case KEY_MAX_PAUSE:
		snprintf(buf, size, "%llums", (unsigned long long)c->so.max_pause_ms);
		return buf;
	case KEY_WAIT:
		snprintf(buf, size, "%llums", (unsigned long long)c->so.wait_ms);
		return buf;
	case KEY_BYTES:
		return yes_no(c->lo.exact_bytes);
	case KEY_ASCII:
		return yes_no(c->lo.ascii);
	case KEY_NO_PAGER:
		return yes_no(c->lo.no_pager);
	case KEY_FORCE:
		return yes_no(c->so.force);
	default:
		return NULL;
	}
}
