/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The verdict: why the memory is where it is, what brings it back now, what keeps it from
 * happening again. Every sentence carries the number that it rests on.
 */
#ifndef ARENASCOPE_ADVISE_H
#define ARENASCOPE_ADVISE_H

#include "arenascope/ledger.h"
#include "arenascope/pins.h"

#ifdef __cplusplus
extern "C" {
#endif

enum asc_verdict {
	ASC_VERDICT_UNKNOWN, /**< no residency, or what tcaches hold would decide: nobody can say */
	ASC_VERDICT_LEAK_LIKE, /**< the program holds it */
	ASC_VERDICT_TRIMMABLE,
	ASC_VERDICT_RETAINED_DYNAMIC, /**< at the tops, by the dynamic threshold */
	ASC_VERDICT_RETAINED,
	ASC_VERDICT_FRAGMENTED,
	ASC_VERDICT_ARENAS,
	ASC_VERDICT_CACHED,
	ASC_VERDICT_MMAPPED,
	ASC_VERDICT_NOT_MALLOC, /**< most of RSS is not glibc malloc's: another allocator, files ... */
	ASC_VERDICT_NOTHING,	/**< a small process, nothing to gain */
};
/** "RETAINED AT THE TOP BY THE DYNAMIC THRESHOLD" ... */
ASC_API const char *asc_verdict_name(enum asc_verdict v);
/** "retained_dynamic" ... */
ASC_API const char *asc_verdict_key(enum asc_verdict v);

/** One sentence, and where to go on. */
struct asc_advice_item {
	const char *code;    /**< static: "retained", "threshold" ... */
	uint64_t bytes;	     /**< that it is about; 0: none */
	char *text;	     /**< owned */
	const char *command; /**< static: "reclaim -n", or NULL */
	char *fix;	     /**< owned: one line, or NULL */
};

/** A setting that would keep it from happening again. */
struct asc_fix {
	const char *tunable;  /**< static: "glibc.malloc.trim_threshold" */
	const char *variable; /**< static: "MALLOC_TRIM_THRESHOLD_", or NULL */
	uint64_t value;
	char *set_to;	  /**< owned: value it is already set to, or NULL */
	bool set_known;	  /**< false: the environment could not be read */
	bool usable;	  /**< this glibc has the tunable */
	uint64_t saves;	  /**< expected, bytes; an upper bound */
	const char *cost; /**< static */
	bool freezes;	  /**< setting it ends the dynamic rule */
};

struct asc_advice {
	enum asc_verdict verdict;
	uint64_t verdict_bytes;
	const char *why_unknown; /**< static: "nothing is known of pages in memory"; or NULL */
	bool dynamic_grown;	 /**< trim_threshold has been raised by the dynamic rule */
	struct asc_advice_item *items; /**< largest first */
	size_t nitems;
	struct asc_fix *fixes; /**< in order of what they save */
	size_t nfixes;
};

struct asc_advise_in {
	const struct asc_heap *heap; /**< may be NULL: not glibc's malloc */
	const struct asc_ledger *ledger;
	/** For what stays because of a foreign brk (trim) and of mlock (reclaim); NULL: nothing does. */
	const struct asc_prediction *trim, *reclaim;
	const struct asc_utilisation *pages; /**< NULL without a heap */
	const char *const *env;		     /**< "NAME=value" of the target's environment */
	size_t nenv;
	bool env_known;
	const char *allocator; /**< who malloc is, or NULL */
};

ASC_API ASC_MUST struct asc_error *asc_advise(const struct asc_advise_in *in,
					      struct asc_advice **ret);
ASC_API void asc_advice_free(struct asc_advice *a);

#ifdef __cplusplus
}
#endif
#endif
