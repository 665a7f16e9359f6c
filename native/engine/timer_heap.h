/* The timer heap: deadlines in order. Pure data: it knows no clock, thread or descriptor.
 *
 * A binary heap of which every timer knows its place in, so one can be taken out of the middle.
 * It grows by realloc, which for large blocks moves pages and copies nothing.
 */
#ifndef TRALE_TIMER_HEAP_H
#define TRALE_TIMER_HEAP_H

#include "engine.h"

typedef struct trale_heap {
    trale_timer **timers;  /* timers[0] is the earliest; a child of i is at 2i+1 and 2i+2 */
    size_t count;
    size_t room;
    uint64_t pushed;  /* orders equal deadlines */
} trale_heap;

int trale_heap_push(trale_heap *heap, trale_timer *timer);  /* -ENOMEM: nothing has changed */
void trale_heap_remove(trale_heap *heap, trale_timer *timer);
void trale_heap_free(trale_heap *heap);

static inline int64_t trale_heap_next(const trale_heap *heap)
{
    return heap->count ? heap->timers[0]->deadline : TRALE_NEVER;
}

#endif
