/* SPDX-License-Identifier: GPL-2.0-only */
/* One cache line in registers, and its non-temporal store, with the widest vectors the machine has. */
#ifndef LINE_H
#define LINE_H

#include <immintrin.h>

#if defined(__AVX512F__)
typedef struct {
	__m512i part[1];
} line_t;
#define LOAD_PART(at) _mm512_load_si512(at)
#define STREAM_PART(at, value) _mm512_stream_si512(at, value)
#elif defined(__AVX__)
typedef struct {
	__m256i part[2];
} line_t;
#define LOAD_PART(at) _mm256_load_si256(at)
#define STREAM_PART(at, value) _mm256_stream_si256(at, value)
#else
typedef struct {
	__m128i part[4];
} line_t;
#define LOAD_PART(at) _mm_load_si128(at)
#define STREAM_PART(at, value) _mm_stream_si128(at, value)
#endif
#define PARTS (sizeof(line_t) / sizeof(((line_t *)0)->part[0]))

static inline line_t load_line(const void *from)
{
	const line_t *source = from;
	line_t line;

	for (unsigned i = 0; i < PARTS; i++)
		line.part[i] = LOAD_PART(&source->part[i]);
	return line;
}

static inline void stream_line(void *to, line_t line)
{
	line_t *target = to;

	for (unsigned i = 0; i < PARTS; i++)
		STREAM_PART(&target->part[i], line.part[i]);
}

#endif
