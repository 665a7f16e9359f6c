#include "timer_heap.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_ROOM 64

static bool heap_before(const trale_timer *a, const trale_timer *b)
{
    return a->deadline < b->deadline || (a->deadline == b->deadline && a->order < b->order);
}

static void heap_put(trale_heap *heap, size_t i, trale_timer *timer)
{
    heap->timers[i] = timer;
    timer->place = i + 1;
}

/* Find the place of `timer`, from the hole at `i` towards the top. */
static size_t heap_sift_up(trale_heap *heap, size_t i, const trale_timer *timer)
{
    while (i > 0 && heap_before(timer, heap->timers[(i - 1) / 2])) {
        heap_put(heap, i, heap->timers[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    return i;
}

static size_t heap_sift_down(trale_heap *heap, size_t i, const trale_timer *timer)
{
    for (size_t child; (child = 2 * i + 1) < heap->count; i = child) {
        if (child + 1 < heap->count && heap_before(heap->timers[child + 1], heap->timers[child]))
            child++;
        if (!heap_before(heap->timers[child], timer))
            break;
        heap_put(heap, i, heap->timers[child]);
    }
    return i;
}

int trale_heap_push(trale_heap *heap, trale_timer *timer)
{
    if (heap->count == heap->room) {
        size_t room = heap->room ? 2 * heap->room : FIRST_ROOM;
        trale_timer **timers = realloc(heap->timers, room * sizeof *timers);
        if (timers == NULL)
            return -ENOMEM;
        heap->timers = timers;
        heap->room = room;
    }
    timer->order = heap->pushed++;
    heap_put(heap, heap_sift_up(heap, heap->count, timer), timer);
    heap->count++;
    return 0;
}

void trale_heap_remove(trale_heap *heap, trale_timer *timer)
{
    size_t hole = timer->place - 1;
    trale_timer *last = heap->timers[--heap->count];
    timer->place = 0;
    if (timer != last)
        heap_put(heap, heap_sift_up(heap, heap_sift_down(heap, hole, last), last), last);
}

void trale_heap_free(trale_heap *heap)
{
    free(heap->timers);
    *heap = (trale_heap){0};
}
