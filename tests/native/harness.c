/* Tests of the engine that need neither Python nor luck: each calls it from one thread, or makes
 * the meeting of two happen. stress.c has those that need many threads and many tries.
 *
 *     test_queue.c  test_timers.c  test_sources.c  test_threads.c  test_memory.c */

#include "harness.h"

#include <signal.h>
#include <string.h>

#include "stress.h"

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void run(const struct test *test)
{
    DEADLINE(60);
    int fds = open_descriptors();
    int64_t began = trale_now();
    test->run();
    CHECK(heap_blocks() == 0 && open_descriptors() == fds);
    int64_t ms = (trale_now() - began) / MS;
    if (ms > 500)
        printf("    %s: %lld ms\n", test->name, (long long)ms);
}

static const struct test stress_tests[] = {{"many_threads_at_once", stress}, {NULL, NULL}};

static const struct test *const all[] = {
    queue_tests, timers_tests, sources_tests, threads_tests, memory_tests, stress_tests,
};

/* harness [part of a name]... */
int main(int argc, char **argv)
{
    int count = 0;
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        for (const struct test *test = all[i]; test->name != NULL; test++) {
            bool wanted = argc == 1;
            for (int a = 1; a < argc; a++)
                wanted = wanted || strstr(test->name, argv[a]) != NULL;
            if (wanted)
                run(test);
            count += wanted;
        }
    }
    printf("%d tests passed\n", count);
    return count == 0;
}
