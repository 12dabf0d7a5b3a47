/* What the mock engine and the load generator share: buffers, time, sockets. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_FDS 65536
#define READ_SIZE (1 << 20)

static char read_buffer[READ_SIZE];

static inline void must(int good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static inline int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Bytes that grow as needed. */
struct bytes {
    char *data;
    size_t size, room;
};

static inline void append(struct bytes *to, const void *data, size_t size) {
    if (to->size + size > to->room) {
        to->room = (to->size + size) * 2;
        to->data = realloc(to->data, to->room);
        must(to->data != NULL, "memory");
    }
    memcpy(to->data + to->size, data, size);
    to->size += size;
}

static inline void drop(struct bytes *from, size_t size) {
    memmove(from->data, from->data + size, from->size - size);
    from->size -= size;
}

static inline void watch(int poll, int operation, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    must(epoll_ctl(poll, operation, fd, &event) == 0, "epoll_ctl");
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* The length that a head announces, or -1. */
static inline long content_length(const char *head, size_t size) {
    static const char name[] = "content-length:";
    for (size_t i = 0; i + sizeof name <= size; i++)
        if (strncasecmp(head + i, name, sizeof name - 1) == 0)
            return strtol(head + i + sizeof name - 1, NULL, 10);
    return -1;
}
