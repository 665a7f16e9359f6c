/* malloc and its kin, counted, and failing when asked to. The linker puts these in the place of the
 * calls that our own objects make (--wrap); what libc and the sanitizers allocate is not counted. */

#include <stdatomic.h>
#include <stddef.h>

#include "check.h"

static atomic_long blocks, countdown;
static atomic_int failed;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *block, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *block, size_t size);
void __wrap_free(void *block);

static int fails(void)
{
    if (atomic_load(&countdown) == 0 || atomic_fetch_sub(&countdown, 1) != 1)
        return 0;
    atomic_store(&failed, 1);
    return 1;
}

static void *counted(void *block)
{
    if (block != NULL)
        atomic_fetch_add(&blocks, 1);
    return block;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : counted(__real_calloc(n, size));
}

void *__wrap_realloc(void *block, size_t size)
{
    if (fails())
        return NULL;
    return block == NULL ? counted(__real_malloc(size)) : __real_realloc(block, size);
}

void __wrap_free(void *block)
{
    if (block != NULL)
        atomic_fetch_sub(&blocks, 1);
    __real_free(block);
}

long heap_blocks(void)
{
    return atomic_load(&blocks);
}

void heap_fail(long n)
{
    atomic_store(&failed, 0);
    atomic_store(&countdown, n);
}

int heap_failed(void)
{
    return atomic_load(&failed);
}
