// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the machine can do at best with cache lines: the yardsticks of the engine's kernels.
 *
 * Each takes a 64-byte aligned buffer and its length in bytes, a multiple of 64.
 */
#include <stdint.h>
#include <string.h>

#include "line.h"

enum { LINE = 64 };

/* glibc's memset, as the dynamic linker chose it for this CPU. */
void limit_memset(char *buffer, uint64_t nbytes)
{
	memset(buffer, 0, nbytes);
}

/* Non-temporal stores of one line, over and over. */
void limit_nt_fill(char *buffer, uint64_t nbytes)
{
	static const uint64_t zeroes[8] __attribute__((aligned(LINE)));
	line_t line = load_line(zeroes);

	for (uint64_t at = 0; at < nbytes; at += LINE)
		stream_line(buffer + at, line);
	_mm_sfence();
}

/* One 8-byte load from each line. */
uint64_t limit_read(char *buffer, uint64_t nbytes)
{
	uint64_t sum = 0;

	for (uint64_t at = 0; at < nbytes; at += LINE)
		sum += *(volatile uint64_t *)(buffer + at + 8);
	return sum;
}

/* One locked read-modify-write on each line. */
void limit_locked_1(char *buffer, uint64_t nbytes)
{
	for (uint64_t at = 0; at < nbytes; at += LINE)
		__atomic_fetch_add((uint32_t *)(buffer + at + 52), 1, __ATOMIC_SEQ_CST);
}

/* Two locked read-modify-writes on each line. */
void limit_locked_2(char *buffer, uint64_t nbytes)
{
	for (uint64_t at = 0; at < nbytes; at += LINE) {
		__atomic_fetch_or((uint64_t *)(buffer + at), 4, __ATOMIC_SEQ_CST);
		__atomic_fetch_add((uint32_t *)(buffer + at + 52), 1, __ATOMIC_SEQ_CST);
	}
}

/* Three locked read-modify-writes on each line. */
void limit_locked_3(char *buffer, uint64_t nbytes)
{
	for (uint64_t at = 0; at < nbytes; at += LINE) {
		__atomic_fetch_or((uint64_t *)(buffer + at), 4, __ATOMIC_SEQ_CST);
		__atomic_fetch_add((uint32_t *)(buffer + at + 52), 1, __ATOMIC_SEQ_CST);
		__atomic_fetch_add((uint32_t *)(buffer + at + 52), 1023, __ATOMIC_SEQ_CST);
	}
}

/* One 8-byte load from each line; then as often three locked operations on two lines that are in use. */
uint64_t limit_read_hot_3(char *buffer, uint64_t nbytes)
{
	uint64_t sum = limit_read(buffer, nbytes);

	for (uint64_t at = 0; at < nbytes; at += LINE) {
		char *first = buffer + at / (512 * LINE) * (512 * LINE);

		__atomic_fetch_or((uint64_t *)first, 4, __ATOMIC_SEQ_CST);
		__atomic_fetch_add((uint32_t *)(first + 52), 1, __ATOMIC_SEQ_CST);
		__atomic_fetch_add((uint32_t *)(first + 2 * LINE + 16), 1, __ATOMIC_SEQ_CST);
	}
	return sum;
}

/* `writes` stores of 8 bytes, each to a line chosen at random. */
void limit_random_writes(char *buffer, uint64_t nbytes, uint64_t writes)
{
	uint64_t x = 88172645463325252ull, lines = nbytes / LINE;

	for (uint64_t i = 0; i < writes; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		*(volatile uint64_t *)(buffer + (uint64_t)((unsigned __int128)x * lines >> 64) * LINE + 40) = i;
	}
}

/* `rounds` steps of arithmetic in registers: how fast one core runs, whatever the memory does. */
uint64_t limit_spin(uint64_t rounds)
{
	uint64_t x = 88172645463325252ull;

	for (uint64_t i = 0; i < rounds; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	return x;
}
