/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Errors. A fallible function returns `struct asc_error *`; NULL is success.
 * The caller owns what it gets: free it with asc_error_free() or pass it up.
 * Under memory shortage a static error is returned; asc_error_free() knows it.
 */
#ifndef ARENASCOPE_ERROR_H
#define ARENASCOPE_ERROR_H

#include <stdarg.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ASC_MUST	 __attribute__((__warn_unused_result__))
#define ASC_PRINTF(f, a) __attribute__((__format__(__printf__, f, a)))
#define ASC_API		 __attribute__((__visibility__("default")))
#define ASC_NEVER_NULL	 __attribute__((__returns_nonnull__))
#else
#define ASC_MUST
#define ASC_PRINTF(f, a)
#define ASC_API
#define ASC_NEVER_NULL
#endif

/** What a caller may branch on. The program's exit status follows from it. */
enum asc_errc {
	ASC_EOTHER = 1,	  /**< failed otherwise (exit 2) */
	ASC_ENOMEM,	  /**< host memory, or --max-memory (exit 2) */
	ASC_EOS,	  /**< a system call failed: os_errno says why (exit 2) */
	ASC_EFAULT,	  /**< address not mapped or not readable in the target (exit 2) */
	ASC_ENOTFOUND,	  /**< the thing asked for does not exist (exit 2) */
	ASC_EUSAGE,	  /**< wrong arguments (exit 64) */
	ASC_EINPUT,	  /**< bad input: not a core, truncated past use (exit 65) */
	ASC_ENOTARGET,	  /**< no such process or file (exit 66) */
	ASC_EUNSUPPORTED, /**< musl, another allocator, a CPU we do not know (exit 69) */
	ASC_EBUG,	  /**< a bug in arenascope (exit 70) */
	ASC_EIO,	  /**< output could not be written (exit 74) */
	ASC_EAGAIN,	  /**< lock held, process exiting, pause budget (exit 75) */
	ASC_EPERM,	  /**< not permitted (exit 77) */
	ASC_ENOSYM,	  /**< no usable symbols or layout (exit 78) */
	ASC_EINTR,	  /**< interrupted by the user (exit 130) */
};

struct asc_error {
	enum asc_errc code;
	int os_errno;		 /**< 0 unless code == ASC_EOS */
	const char *id;		 /**< static, e.g. "E-YAMA", or NULL */
	char *msg;		 /**< owned: what failed */
	char *why;		 /**< owned or NULL: a fact measured now */
	char *hint;		 /**< owned or NULL: what to try; lines separated by '\n' */
	struct asc_error *cause; /**< owned; NULL at the root */
};

/** New error. @return never NULL */
ASC_API ASC_MUST ASC_NEVER_NULL struct asc_error *asc_err(enum asc_errc code, const char *fmt, ...)
	ASC_PRINTF(2, 3);

/** New ASC_EOS error; ": strerror(os_errno)" is appended when it is printed. @return never NULL */
ASC_API ASC_MUST ASC_NEVER_NULL struct asc_error *asc_err_os(int os_errno, const char *fmt, ...)
	ASC_PRINTF(2, 3);

/** Wrap @p cause (consumed) with context; code and id are inherited. @return never NULL */
ASC_API ASC_MUST ASC_NEVER_NULL struct asc_error *asc_wrap(struct asc_error *cause, const char *fmt,
							   ...) ASC_PRINTF(2, 3);

/**
 * Set id, and optionally replace the code, of @p err. @p id must be a string with static lifetime.
 * @return err
 */
ASC_API ASC_NEVER_NULL struct asc_error *asc_err_id(struct asc_error *err, const char *id);
/** Set the `why:` line (replaces). @return err */
ASC_API ASC_NEVER_NULL struct asc_error *asc_err_why(struct asc_error *err, const char *fmt, ...)
	ASC_PRINTF(2, 3);
/** Add a line to the `try:` lines. @return err */
ASC_API ASC_NEVER_NULL struct asc_error *asc_err_try(struct asc_error *err, const char *fmt, ...)
	ASC_PRINTF(2, 3);

/** Free @p err and its causes. NULL is fine. */
ASC_API void asc_error_free(struct asc_error *err);
ASC_API void asc_error_freep(struct asc_error **err);

/** The whole chain as one line: "msg: cause: cause: strerror". @return owned string, NULL without memory */
ASC_API char *asc_error_text(const struct asc_error *err);

/** First id, why or hint found along the chain, or NULL. */
ASC_API const char *asc_error_id(const struct asc_error *err);
ASC_API const char *asc_error_why(const struct asc_error *err);
ASC_API const char *asc_error_hint(const struct asc_error *err);

/** The process exit status for @p err (INTERFACE section 4); 0 for NULL. */
ASC_API int asc_error_exit(const struct asc_error *err);

#ifdef __cplusplus
}
#endif
#endif
