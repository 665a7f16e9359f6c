/* Many datagrams in one system call: recvmmsg(2), sendmmsg(2). declarations.h has the contract.
 *
 * All memory is the caller's or on the stack, so there is nothing to clean up.
 */

#define _GNU_SOURCE 1 /* recvmmsg, sendmmsg */

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "declarations.h"

_Static_assert(TRALE_NAME == sizeof(struct sockaddr_in6), "an address is a sockaddr_in6");

int trale_recv_many(int fd, char *space, char *names, unsigned int *lengths, unsigned int count)
{
    struct mmsghdr messages[TRALE_DATAGRAMS]; /* one header for each datagram, and its length */
    struct iovec parts[TRALE_DATAGRAMS];      /* where its bytes go: one part each */
    unsigned int n;
    int received;

    if (count > TRALE_DATAGRAMS)
        return -EINVAL;

    /* The kernel writes into the headers, so they are made anew for each call. */
    memset(messages, 0, count * sizeof(messages[0]));
    memset(names, 0, (size_t)count * TRALE_NAME);
    for (n = 0; n < count; n++) {
        parts[n].iov_base = space + (size_t)n * TRALE_SLOT;
        parts[n].iov_len = TRALE_SLOT;
        messages[n].msg_hdr.msg_iov = &parts[n];
        messages[n].msg_hdr.msg_iovlen = 1;
        messages[n].msg_hdr.msg_name = names + (size_t)n * TRALE_NAME;
        messages[n].msg_hdr.msg_namelen = TRALE_NAME;
    }

    do
        received = recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL);
    while (received < 0 && errno == EINTR);
    if (received < 0)
        return -errno;

    for (n = 0; n < (unsigned int)received; n++)
        lengths[n] = messages[n].msg_len;
    return received;
}

/* How much of the TRALE_NAME bytes at `name` is an address. */
static socklen_t trale_name_length(const char *name)
{
    sa_family_t family; /* copied, as `name` need not be aligned */

    memcpy(&family, name, sizeof(family));
    switch (family) {
    case AF_INET:
        return sizeof(struct sockaddr_in);
    case AF_INET6:
        return sizeof(struct sockaddr_in6);
    default:
        return 0;
    }
}

int trale_send_many(int fd, const char *data, const char *names, const unsigned int *lengths,
                    unsigned int count)
{
    struct mmsghdr messages[TRALE_DATAGRAMS]; /* one header for each datagram */
    struct iovec parts[TRALE_DATAGRAMS];      /* where its bytes are: one part each */
    unsigned int n;
    int sent;

    if (count > TRALE_DATAGRAMS)
        return -EINVAL;

    memset(messages, 0, count * sizeof(messages[0]));
    for (n = 0; n < count; n++) {
        const char *name = names + (size_t)n * TRALE_NAME;

        /* The casts: the structures serve for receiving too. Nothing is written to here. */
        parts[n].iov_base = (void *)data;
        parts[n].iov_len = lengths[n];
        messages[n].msg_hdr.msg_iov = &parts[n];
        messages[n].msg_hdr.msg_iovlen = 1;
        messages[n].msg_hdr.msg_namelen = trale_name_length(name);
        if (messages[n].msg_hdr.msg_namelen > 0)
            messages[n].msg_hdr.msg_name = (void *)name;
        data += lengths[n];
    }

    do
        sent = sendmmsg(fd, messages, count, MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}
