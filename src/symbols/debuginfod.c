/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * debuginfod: its cache first, which needs no permission; then its servers, if the user allows it.
 * The library is opened at run time, so that a machine without it loses nothing else. It bounds a
 * download by environment variables only, read at its first use; the progress function is the limit
 * that counts: it is called at least once a second, and also while there is no answer yet.
 */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "symbols/priv.h"

struct asc_fod_api {
	void *client;
	void *(*begin)(void);
	void (*end)(void *client);
	int (*find_debuginfo)(void *client, const unsigned char *id, int len, char **path);
	void (*set_progressfn)(void *client, int (*fn)(void *client, long a, long b));
	void (*set_user_data)(void *client, void *data);
	void *(*get_user_data)(void *client);
};

struct download {
	struct asc_modules *m;
	const struct asc_fod_api *api;
	uint64_t deadline_ms;
	bool timed_out, stopped;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* The callback gets only the client: its user data is all we have, through a dlsym'ed function. */
static int on_progress(void *client, long a, long b)
{
	void *(*get)(void *) = NULL;
	struct download *d;

	*(void **)&get = dlsym(RTLD_DEFAULT, "debuginfod_get_user_data");
	if (!get)
		return 1;
	d = get(client);
	if (!d)
		return 0;
	if (now_ms() >= d->deadline_ms)
		d->timed_out = true;
	if (d->m->opts.progress &&
	    !d->m->opts.progress(d->m->opts.arg, a > 0 ? (uint64_t)a : 0, b > 0 ? (uint64_t)b : 0))
		d->stopped = true;
	return d->timed_out || d->stopped;
}

static char *cache_path(const char *dir, const char *sub, const struct asc_module *mod)
{
	char *s;

	if (!dir || asprintf(&s, "%s%s/%s/debuginfo", dir, sub, mod->build_id) < 0)
		return NULL;
	if (!access(s, R_OK))
		return s;
	free(s);
	return NULL;
}

char *asc_fod_cached(struct asc_module *mod)
{
	const char *set = getenv("DEBUGINFOD_CACHE_PATH"), *home = getenv("HOME");
	const char *xdg = getenv("XDG_CACHE_HOME");
	struct stat st;
	char *path;

	path = set ? cache_path(set, "", mod) : NULL;
	if (!path && !set && xdg)
		path = cache_path(xdg, "/debuginfod_client", mod);
	if (!path && !set)
		path = cache_path(home, "/.cache/debuginfod_client", mod);
	if (!path && !set)
		path = cache_path(home, "/.debuginfod_client_cache", mod);
	/* an empty file is the client's memory of a failure */
	if (path && (stat(path, &st) || !st.st_size)) {
		free(path);
		path = NULL;
	}
	if (!path)
		asc_tried_add(mod, "debuginfod cache", "not in it");
	return path;
}

static bool load(struct asc_modules *m)
{
	struct asc_fod_api *api;
	char seconds[24];

	if (m->fod_api)
		return true;
	/* before the first use; what the user has set stays */
	snprintf(seconds, sizeof(seconds), "%u",
		 m->opts.timeout_ms / 1000 ? m->opts.timeout_ms / 1000 : 1);
	setenv("DEBUGINFOD_TIMEOUT", seconds, 0);
	setenv("DEBUGINFOD_RETRY_LIMIT", "1", 0);
	/* what its libraries (curl, TLS) made for good would be lost if they were unloaded */
	m->fod = dlopen("libdebuginfod.so.1", RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
	api = m->fod ? calloc(1, sizeof(*api)) : NULL;
	if (!api)
		return false;
	*(void **)&api->begin = dlsym(m->fod, "debuginfod_begin");
	*(void **)&api->end = dlsym(m->fod, "debuginfod_end");
	*(void **)&api->find_debuginfo = dlsym(m->fod, "debuginfod_find_debuginfo");
	*(void **)&api->set_progressfn = dlsym(m->fod, "debuginfod_set_progressfn");
	*(void **)&api->set_user_data = dlsym(m->fod, "debuginfod_set_user_data");
	*(void **)&api->get_user_data = dlsym(m->fod, "debuginfod_get_user_data");
	if (api->begin && api->end && api->find_debuginfo && api->set_progressfn &&
	    api->set_user_data && api->get_user_data)
		api->client = api->begin();
	if (!api->client) {
		free(api);
		return false;
	}
	m->fod_api = api;
	return true;
}

static bool allowed(struct asc_modules *m, struct asc_module *mod, const char *urls)
{
	ASC_AUTO(asc_freep) char *question = NULL;

	if (m->opts.debuginfod == ASC_DEBUGINFOD_OFF || m->fod_refused) {
		asc_tried_add(mod, "debuginfod", "not asked: --debuginfod=off");
		return false;
	}
	if (!urls || !urls[0]) {
		asc_tried_add(mod, "debuginfod", "DEBUGINFOD_URLS names no server");
		return false;
	}
	if (m->opts.debuginfod == ASC_DEBUGINFOD_ON)
		return true;
	if (!m->opts.ask ||
	    asprintf(&question, "Download debug symbols of %s (build-id %s) by debuginfod?",
		     mod->path[0] ? mod->path : "a module", mod->build_id) < 0 ||
	    !m->opts.ask(m->opts.arg, question)) {
		asc_tried_add(mod, "debuginfod", "not allowed");
		m->fod_refused = true;
		return false;
	}
	m->opts.debuginfod = ASC_DEBUGINFOD_ON;
	return true;
}

char *asc_fod_fetch(struct asc_modules *m, struct asc_module *mod)
{
	const char *urls = getenv("DEBUGINFOD_URLS");
	unsigned limit = m->opts.timeout_ms ? m->opts.timeout_ms : 5000;
	struct download d = { .m = m, .deadline_ms = now_ms() + limit };
	char *path = NULL;
	int fd;

	if (!allowed(m, mod, urls))
		return NULL;
	if (!load(m)) {
		asc_tried_add(mod, "debuginfod", "libdebuginfod.so.1 is not installed");
		return NULL;
	}
	d.api = m->fod_api;
	d.deadline_ms = now_ms() + limit;
	m->fod_api->set_user_data(m->fod_api->client, &d);
	m->fod_api->set_progressfn(m->fod_api->client, on_progress);
	fd = m->fod_api->find_debuginfo(m->fod_api->client, (const unsigned char *)mod->build_id, 0,
					&path);
	m->fod_api->set_user_data(m->fod_api->client, NULL);
	if (fd >= 0) {
		close(fd);
		return path;
	}
	if (d.timed_out) {
		asc_tried_add(mod, urls, "no answer in %u ms (--symbols-timeout)", limit);
		m->fod_refused = true; /* the next module would wait as long */
	} else if (d.stopped) {
		asc_tried_add(mod, urls, "stopped by the user");
		m->fod_refused = true;
	} else {
		asc_tried_add(mod, urls, "%s", fd == -ENOENT ? "does not have it" : strerror(-fd));
	}
	return NULL;
}

void asc_fod_close(struct asc_modules *m)
{
	if (m->fod_api)
		m->fod_api->end(m->fod_api->client);
	free(m->fod_api);
	if (m->fod)
		dlclose(m->fod);
}
