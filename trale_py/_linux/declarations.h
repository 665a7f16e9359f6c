/* What the C in this folder gives to Python.
 *
 * The compiler and cffi both read this file, so it has plain declarations only: no #include,
 * and no macro but numbers. The functions know nothing of Python; cffi drops the GIL around
 * each call. They return what they did, or -errno.
 */

/* Datagrams in one system call: the call's own price is a few percent of the whole then. */
#define TRALE_DATAGRAMS 64

/* Bytes from one received datagram to the next. No datagram of UDP is longer than 65,535, as it has 16
 * bits for the length, IPv6 and its jumbograms included. One of a Unix socket may be. */
#define TRALE_SLOT 65536

/* Bytes from one received address to the next: the longest, a struct sockaddr_un (unix(7)), fits. */
#define TRALE_NAME 110

/* recvmmsg(2), never waiting. Returns how many datagrams came, at most `count`.
 *
 * space         count * TRALE_SLOT bytes; datagram n is at n * TRALE_SLOT
 * names         count * TRALE_NAME bytes; where datagram n came from is at n * TRALE_NAME
 * name_lengths  count numbers; how long that is, 0 if it came from a socket without a name
 * lengths       count numbers; how long datagram n is, 0 included. More than TRALE_SLOT: the rest is lost
 *
 * -EAGAIN if there is none. An error that comes after the first datagram is kept by the
 * kernel for the next call.
 */
int trale_recv_many(int fd, char *space, char *names, unsigned int *name_lengths, unsigned int *lengths,
                    unsigned int count);

/* sendmmsg(2), never waiting. Returns how many of the `count` datagrams were sent.
 *
 * data          the datagrams one behind the other, with nothing in between
 * names         where they go: the kernel's addresses, likewise
 * name_lengths  count numbers; how long each of these is, 0 for where the socket is connected
 * lengths       count numbers; how long datagram n is
 *
 * -errno is about the first datagram. A later one that fails ends the batch, and what it
 * failed with is not told: see BUGS in sendmmsg(2).
 */
int trale_send_many(int fd, const char *data, const char *names, const unsigned int *name_lengths,
                    const unsigned int *lengths, unsigned int count);

/* How many receivers of signals there may be at once. */
#define TRALE_RECEIVERS 64

/* Have the signals in `wanted` (bit n - 1 for signal n) marked, and eventfd(2) `eventfd` (non-blocking)
 * written to, whenever one comes. sigaction(2); from any thread. Returns the receiver's number.
 *
 * chain  0: the handler from before is not called while this receiver is open
 *
 * -EMFILE: there are TRALE_RECEIVERS already. -EINVAL: a signal that cannot be handled.
 */
int trale_signals_open(int eventfd, unsigned long long wanted, int chain);

/* The signals that have come since this was last called; empties the eventfd. None of a closed one. */
unsigned long long trale_signals_take(int receiver);

/* End a receiver; its eventfd is not written to any more. With the last receiver of a signal the
 * handler from before is restored. Returns the signals for which the program has set another handler
 * meanwhile; that one stays.
 */
unsigned long long trale_signals_close(int receiver);

/* In the child of a fork: end all receivers, which are the parent's. */
void trale_signals_forget(void);

/* timerfd_create(2), not blocking, closed by an exec. Returns the descriptor.
 *
 * clock  a clockid_t: CLOCK_REALTIME, CLOCK_BOOTTIME
 */
int trale_clock_timer_open(int clock);

/* timerfd_settime(2): have `timer` become readable once, when its clock has reached this time (0: at
 * once). If the clock is the wall clock and is set to another time, it becomes readable too, and
 * read(2) fails with ECANCELED (TFD_TIMER_CANCEL_ON_SET).
 */
int trale_clock_timer_set(int timer, long long seconds, long long nanoseconds);
