/* The least a test needs: CHECK ends the process with a word about where it stood, and DEADLINE
 * does so when it hangs, which is how a lost wake shows. */
#ifndef TRALE_CHECK_H
#define TRALE_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

/* SIGALRM ends the process: the harness has no handler for it. */
#define DEADLINE(seconds) alarm(seconds)

/* Blocks that malloc and its kin have given out and free has not got back; see heap.c. */
long heap_blocks(void);

/* Have the n-th allocation from now on fail, counted from 1; 0: none. */
void heap_fail(long n);

/* Whether that one has come. */
int heap_failed(void);

#endif
