/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "commands/look.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* Errors about the heap do not concern stacks. */
static bool is_about_heap(const struct asc_error *err)
{
	return err->code == ASC_EUNSUPPORTED || err->code == ASC_ENOSYM ||
	       err->code == ASC_EFAULT || err->code == ASC_ENOTFOUND;
}

struct asc_error *asc_look_take(struct asc_session *s, struct asc_out *o, unsigned extra,
				pid_t only_tid, size_t depth, struct asc_look *ret,
				struct asc_traces **ret_traces)
{
	const unsigned heaps = ASC_NEED_LISTS | ASC_NEED_ARENAS;
	unsigned needs = ASC_NEED_TARGET | ASC_NEED_SYMBOLS | ASC_NEED_REGS | ASC_NEED_STACKS;
	struct asc_error *err = asc_session_need(s, needs | extra);

	if (err && (extra & heaps) && is_about_heap(err)) {
		ASC_AUTO(asc_freep) char *why = asc_error_text(err);

		asc_error_free(err);
		asc_out_warn(o, "W-NO-HEAP", "no arenas: %s", why ? why : "no glibc heap");
		err = asc_session_need(s, needs | (extra & ~heaps));
	}
	ASC_TRY(err);
	*ret = (struct asc_look){
		.t = s->data,
		.m = s->modules,
		.now = s->live != s->data ? s->live : NULL,
		.frozen = s->frozen[0] ? s->frozen : NULL,
		.heap = extra & heaps ? asc_session_heap(s) : NULL,
		.lib = s->nlibcs ? &s->libcs[0] : NULL,
	};
	ASC_TRY(asc_traces_read(s->data, s->modules, s->libcs, s->nlibcs, only_tid, depth,
				ret_traces));
	ret->traces = *ret_traces;
	return NULL;
}

const char *asc_state_text(char state)
{
	static const char known[] = "RSDTtZXIPWK?";
	static const char *const texts[] = { "R", "S", "D", "T", "t", "Z",
					     "X", "I", "P", "W", "K", "?" };
	const char *at = state ? strchr(known, state) : NULL;

	return texts[at ? at - known : (ptrdiff_t)sizeof(known) - 2];
}

const char *asc_base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

char *asc_frame_name(const struct asc_trace_frame *f)
{
	char *s = NULL;
	int n;

	if (f->function)
		return strdup(f->function);
	if (f->module)
		n = asprintf(&s, "%s+0x%" PRIx64, asc_base_name(f->module), f->offset);
	else
		n = asprintf(&s, "0x%" PRIx64, f->pc);
	return n < 0 ? NULL : s;
}

char *asc_frame_text(struct asc_modules *m, const struct asc_trace_frame *f, bool with_line)
{
	ASC_AUTO(asc_freep) char *raw = NULL;
	struct asc_place place;
	char at[256] = "", off[32] = "";
	int n;

	if (with_line && asc_place_of(m, f->lookup, true, &place) && place.file)
		snprintf(at, sizeof(at), "  %s:%d", asc_base_name(place.file), place.line);
	if (f->function)
		snprintf(off, sizeof(off), "+0x%" PRIx64, f->offset);
	if (f->function)
		n = asprintf(&raw, "%s%s  %s%s", f->function, off,
			     f->module ? asc_base_name(f->module) : "", at);
	else if (f->module)
		n = asprintf(&raw, "%s+0x%" PRIx64, asc_base_name(f->module), f->offset);
	else
		n = asprintf(&raw, "(no module)");
	if (n < 0) {
		raw = NULL;
		return NULL;
	}
	return asc_escape(raw);
}
