/* Many datagrams in one system call: recvmmsg(2), sendmmsg(2). declarations.h has the contract.
 *
 * All memory is the caller's or on the stack, so there is nothing to clean up.
 */

#define _GNU_SOURCE 1 /* recvmmsg, sendmmsg */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "declarations.h"

_Static_assert(TRALE_NAME == sizeof(struct sockaddr_un), "it is the longest");

int trale_recv_many(int fd, char *space, char *names, unsigned int *name_lengths, unsigned int *lengths,
                    unsigned int count)
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
        received = recvmmsg(fd, messages, count, MSG_DONTWAIT | MSG_TRUNC, NULL);
    while (received < 0 && errno == EINTR);
    if (received < 0)
        return -errno;

    for (n = 0; n < (unsigned int)received; n++) {
        lengths[n] = messages[n].msg_len;
        name_lengths[n] = messages[n].msg_hdr.msg_namelen;
    }
    return received;
}

int trale_send_many(int fd, const char *data, const char *names, const unsigned int *name_lengths,
                    const unsigned int *lengths, unsigned int count)
{
    struct mmsghdr messages[TRALE_DATAGRAMS]; /* one header for each datagram */
    struct iovec parts[TRALE_DATAGRAMS];      /* where its bytes are: one part each */
    unsigned int n;
    int sent;

    if (count > TRALE_DATAGRAMS)
        return -EINVAL;

    memset(messages, 0, count * sizeof(messages[0]));
    for (n = 0; n < count; n++) {
        /* The casts: the structures serve for receiving too. Nothing is written to here. */
        parts[n].iov_base = (void *)data;
        parts[n].iov_len = lengths[n];
        messages[n].msg_hdr.msg_iov = &parts[n];
        messages[n].msg_hdr.msg_iovlen = 1;
        messages[n].msg_hdr.msg_namelen = name_lengths[n];
        if (name_lengths[n] > 0)
            messages[n].msg_hdr.msg_name = (void *)names;
        names += name_lengths[n];
        data += lengths[n];
    }

    do
        sent = sendmmsg(fd, messages, count, MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}
