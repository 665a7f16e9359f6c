/* Timers of the clocks that epoll_wait(2) has no timeout for. declarations.h has the contract. */

#define _GNU_SOURCE 1 /* TFD_TIMER_CANCEL_ON_SET */

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>

#include "declarations.h"

#ifndef TFD_TIMER_CANCEL_ON_SET /* glibc has it since 2.28 */
#define TFD_TIMER_CANCEL_ON_SET (1 << 1)
#endif

int trale_clock_timer_open(int clock)
{
    int timer = timerfd_create(clock, TFD_NONBLOCK | TFD_CLOEXEC);

    return timer < 0 ? -errno : timer;
}

int trale_clock_timer_set(int timer, long long seconds, long long nanoseconds)
{
    struct itimerspec at;

    memset(&at, 0, sizeof(at));
    at.it_value.tv_sec = seconds;
    at.it_value.tv_nsec = nanoseconds;
    if (seconds == 0 && nanoseconds == 0)
        at.it_value.tv_nsec = 1; /* zero would disarm it */

    /* ECANCELED: the clock was set since it was last read. The timer is set all the same, and the
     * second call finds nothing to tell. */
    while (timerfd_settime(timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &at, NULL) < 0)
        if (errno != ECANCELED)
            return -errno;
    return 0;
}
