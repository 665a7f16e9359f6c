/* How long the two threads wait and how often they look: all of it, in one table.
 *
 *     name                 | how long | in  | owner    | why so long
 *     ---------------------|----------|-----|----------|-------------------------------------------
 *     TRALE_MOMENT_NS      | 50 us    | ns  | executor | It waits in epoll after I/O, with the GIL,
 *                          |          |     |          | as another thread computes and would keep
 *                          |          |     |          | the GIL for 5 ms: about what a peer on the
 *                          |          |     |          | same machine takes to answer.
 *     TRALE_GRACE_MS       | 1 ms     | ms  | executor | It waits in epoll before it hands over to
 *                          |          |     |          | the reactor, without the GIL: a hand-over
 *                          |          |     |          | is a thread switch. The shortest wait that
 *                          |          |     |          | epoll_wait knows, which counts in ms.
 *     TRALE_STUCK_NS       | 1 ms     | ns  | reactor  | It is parked and looks whether the executor
 *                          |          |     |          | has taken a turn since. A poll that takes
 *                          |          |     |          | longer holds others up.
 *     TRALE_LOOK_NS        | 50 us    | ns  | executor | Its queue is never empty, and it looks at
 *                          |          |     |          | epoll no more often: a look is a system
 *                          |          |     |          | call, and costs less than a hundredth of
 *                          |          |     |          | that time.
 *     TRALE_LATE_NS        | 100 ms   | ns  | executor | It sleeps, and the timerfd is late: it looks
 *                          |          |     |          | for itself (R42). Long, as that only happens
 *                          |          |     |          | when other code has closed our descriptors.
 *
 * One is no wait, and the binding's:
 *
 *     TPY_CONTENDED_NS     | 1 ms     | ns  | executor | To get the GIL back took longer: another
 *                          |          |     |          | thread computes. A thread that only passes through
 *                          |          |     |          | Python does not keep it for that long.
 */
#ifndef TRALE_WAITS_H
#define TRALE_WAITS_H

#define TRALE_MOMENT_NS 50000LL
#define TRALE_GRACE_MS 1
#define TRALE_STUCK_NS 1000000LL
#define TRALE_LOOK_NS 50000LL
#ifndef TRALE_LATE_NS  /* the explorer does without, or it would not find a lost timer */
#define TRALE_LATE_NS 100000000LL
#endif
#define TPY_CONTENDED_NS 1000000LL

#endif
