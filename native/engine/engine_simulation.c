/* What a test puts in the place of the clock, the order of a batch, and the kernel. Nothing here is
 * called but by the engines of tests. */

#include "engine_private.h"

#include <stdlib.h>

typedef struct simulation_plan {
    struct simulation_plan *next;
    enum trale_call call;
    int fd, error;
    size_t size;
    uint64_t after, times;
} simulation_plan;

struct trale_simulation {
    pthread_mutex_t lock;             /* the last one: what else is held stays held */
    _Atomic int64_t now;              /* negative: the kernel's clock */
    _Atomic bool seeded;
    uint64_t random;                  /* the state of the generator; executor's thread */
    simulation_plan *plans;           /* lock */
    uint64_t made[TRALE_CALLS];       /* lock */
};

trale_simulation *trale_simulation_new(void)
{
    trale_simulation *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    pthread_mutex_init(&s->lock, NULL);
    s->now = -1;
    return s;
}

void trale_simulation_free(trale_simulation *s)
{
    while (s->plans != NULL) {
        simulation_plan *plan = s->plans;
        s->plans = plan->next;
        free(plan);
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- the clock ------------------------------------------------------------------------------------- */

void trale_simulation_set_now(trale_simulation *s, int64_t now)
{
    atomic_store_explicit(&s->now, now, memory_order_relaxed);
}

bool trale_simulation_now(trale_simulation *s, int64_t *now)
{
    int64_t set = atomic_load_explicit(&s->now, memory_order_relaxed);
    if (set >= 0)
        *now = set;
    return set >= 0;
}

/* ---- the order of a batch --------------------------------------------------------------------------- */

void trale_simulation_seed(trale_simulation *s, uint64_t seed)
{
    s->random = seed;
    atomic_store_explicit(&s->seeded, true, memory_order_release);
}

/* SplitMix64. Both engines have it, as Python's own may change from one version to the next. */
uint64_t trale_simulation_random(trale_simulation *s)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static void simulation_shuffle_run(trale_simulation *s, trale_cell **cells, size_t count)
{
    for (size_t i = count; i-- > 1;) {
        size_t j = trale_simulation_random(s) % (i + 1);
        trale_cell *cell = cells[i];
        cells[i] = cells[j];
        cells[j] = cell;
    }
}

/* Calls keep their places, and tasks do not pass them: a thread that publishes a call counts on what it
 * has pushed before. Without memory the order stays. */
void trale_shuffle(trale_engine *e, uint8_t kind)
{
    trale_simulation *s = e->simulation;
    size_t count = e->batch;
    if (!atomic_load_explicit(&s->seeded, memory_order_acquire) || count < 2)
        return;
    trale_cell **cells = malloc(count * sizeof *cells);
    if (cells == NULL)
        return;
    TRALE_LOCK(&e->lock);
    trale_cell *rest = e->head;
    for (size_t i = 0; i < count; i++, rest = rest->next)
        cells[i] = rest;
    for (size_t begin = 0, end; begin < count; begin = end + 1) {
        for (end = begin; end < count && cells[end]->kind == kind;)
            end++;
        simulation_shuffle_run(s, cells + begin, end - begin);
    }
    for (size_t i = 0; i + 1 < count; i++)
        cells[i]->next = cells[i + 1];
    cells[count - 1]->next = rest;
    e->head = cells[0];
    if (rest == NULL)
        e->tail = cells[count - 1];
    TRALE_UNLOCK(&e->lock);
    free(cells);
}

/* ---- the calls --------------------------------------------------------------------------------------- */

int trale_simulation_plan(trale_simulation *s, enum trale_call call, int fd, int error, size_t size,
                          uint64_t after, uint64_t times)
{
    simulation_plan *plan = malloc(sizeof *plan);
    if (plan == NULL)
        return -ENOMEM;
    *plan = (simulation_plan){NULL, call, fd, error, size, after, times};
    TRALE_LOCK(&s->lock);
    simulation_plan **last = &s->plans;
    while (*last != NULL)
        last = &(*last)->next;
    *last = plan;
    TRALE_UNLOCK(&s->lock);
    return 0;
}

int trale_simulation_take(trale_simulation *s, enum trale_call call, int fd, size_t *size)
{
    int error = 0;
    TRALE_LOCK(&s->lock);
    s->made[call]++;
    for (simulation_plan *plan = s->plans; plan != NULL; plan = plan->next) {
        if (plan->call != call || (plan->fd >= 0 && plan->fd != fd) || plan->times == 0)
            continue;
        if (plan->after > 0) {
            plan->after--;
            continue;
        }
        plan->times--;
        error = plan->error;
        if (error == 0 && size != NULL && plan->size < *size)
            *size = plan->size;
        break;
    }
    TRALE_UNLOCK(&s->lock);
    return -error;
}

uint64_t trale_simulation_left(trale_simulation *s)
{
    uint64_t left = 0;
    TRALE_LOCK(&s->lock);
    for (const simulation_plan *plan = s->plans; plan != NULL; plan = plan->next)
        left += plan->times;
    TRALE_UNLOCK(&s->lock);
    return left;
}

uint64_t trale_simulation_made(trale_simulation *s, enum trale_call call)
{
    TRALE_LOCK(&s->lock);
    uint64_t made = s->made[call];
    TRALE_UNLOCK(&s->lock);
    return made;
}
