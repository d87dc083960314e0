/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is kept of a live process's pages: while it is stopped, those that have been read; those that a
 * rehearsal foresaw, read at once; and these alone, sealed, for whoever reads on when it runs again.
 */
#include "base/cleanup.h"
#include "target/live_priv.h"
#include "target/readers.h"

void asc_target_keep_pages(struct asc_target *t, bool on)
{
	struct live *l = live_of(t);

	if (t->ops->kind != ASC_LIVE)
		return;
	asc_read_cache_free(l->cache);
	l->cache = NULL;
	if (!on && !l->sealed) /* whoever goes on may change it */
		asc_page_store_drop(l->store);
	/* without memory for it, every read goes to the target */
	if (on && l->stopper)
		asc_error_free(asc_read_cache_new(&l->cache));
}

bool asc_target_rehearse(struct asc_target *t, size_t max)
{
	struct live *l = live_of(t);
	struct asc_error *err;

	if (t->ops->kind != ASC_LIVE || l->stopper || l->no_stop)
		return false;
	asc_page_store_free(asc_take(l->store));
	err = asc_page_store_new(max, &l->store);
	l->noting = !err;
	asc_error_free(err);
	return l->noting;
}

void asc_target_rehearsed(struct asc_target *t, size_t spare)
{
	struct live *l = live_of(t);

	if (t->ops->kind != ASC_LIVE || !l->noting)
		return;
	l->noting = false;
	asc_page_store_mark(l->store, spare);
}

bool asc_target_seal(struct asc_target *t)
{
	struct live *l = live_of(t);

	if (t->ops->kind != ASC_LIVE || !l->store || !l->stopper)
		return false;
	l->missed = false;
	l->sealed = asc_page_store_is_same(l->store);
	return l->sealed;
}

bool asc_target_unseal(struct asc_target *t)
{
	struct live *l = live_of(t);
	bool answered = l->sealed && !l->missed;

	l->sealed = false;
	asc_target_keep_pages(t, false);
	return answered;
}

void asc_live_load(struct live *l, const struct asc_residency *res)
{
	const bool noting = l->noting;

	l->noting = false;
	asc_error_free(asc_page_store_load(l->store, res, false, &l->t));
	l->noting = noting;
}

void asc_target_fetch(struct asc_target *t, const struct asc_residency *res, const asc_addr *more,
		      size_t n)
{
	struct live *l = live_of(t);

	if (t->ops->kind != ASC_LIVE || !asc_live_keeps(l))
		return;
	for (size_t i = 0; i < n && asc_page_store_note(l->store, more[i], 1); i++)
		;
	asc_live_load(l, res);
}

void asc_target_mark_early(struct asc_target *t)
{
	struct live *l = live_of(t);

	if (t->ops->kind == ASC_LIVE && l->noting)
		asc_page_store_mark_early(l->store);
}

void asc_target_fetch_early(struct asc_target *t)
{
	struct live *l = live_of(t);

	if (t->ops->kind == ASC_LIVE && l->store && l->stopper && !l->sealed)
		asc_error_free(asc_page_store_load(l->store, NULL, true, t));
}

bool asc_target_has(struct asc_target *t, asc_addr addr)
{
	const struct live *l = live_of(t);

	return t->ops->kind == ASC_LIVE && (asc_live_keeps(l) || l->sealed) &&
	       asc_page_store_has(l->store, addr);
}

void asc_target_forget_rehearsal(struct asc_target *t)
{
	if (t->ops->kind == ASC_LIVE && !live_of(t)->noting)
		asc_page_store_free(asc_take(live_of(t)->store));
}
