/* The load generator: `load PORT KIND CONNECTIONS SECONDS RATE EVENTS ROUNDS < request` prints what it measured, as JSON.
 *
 * closed:  each connection sends the request again as soon as it has the reply; for SECONDS, after a tenth to warm up.
 * offered: RATE requests a second, whether or not the earlier ones were answered; timed from when each was due.
 * streams: ROUNDS streams on each connection, all connections at once; each event's delay is taken from the moment that
 *          the mock engine wrote into it.
 * All times in seconds.
 */
#include "net.h"
#include <sys/timerfd.h>

static const char MARK[] = "\"content\":\" ";
enum { STAMP = 16 };

struct connection {
    int busy, waiting, rounds, events;
    long missing; /* bytes of the reply still to come; -1: its head is not whole yet; -2: it is chunked */
    size_t sent;
    int64_t began;
    struct bytes got; /* of a head, or what may be the beginning of a mark */
    char tail[7];
};

struct samples {
    int64_t *data;
    size_t size, room;
};

static struct connection connections[MOST_FDS];
static int fds[MOST_FDS], free_fds[MOST_FDS], free_count, poller;
static struct bytes request;
static struct samples latencies, delays, firsts;
static int is_streams;

static void sample(struct samples *to, int64_t value) {
    if (to->size == to->room) {
        to->room = to->room ? to->room * 2 : 4096;
        to->data = realloc(to->data, to->room * sizeof *to->data);
        must(to->data != NULL, "memory");
    }
    to->data[to->size++] = value;
}

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print_spread(const char *name, struct samples *of) {
    if (of->size == 0)
        return;
    qsort(of->data, of->size, sizeof *of->data, ascending);
    printf(", \"%sp50\": %.6f, \"%sp99\": %.6f", name, of->data[of->size / 2] / 1e6, name,
           of->data[of->size * 99 / 100] / 1e6);
}

static void flush(int fd) {
    struct connection *connection = &connections[fd];
    ssize_t sent = send(fd, request.data + connection->sent, request.size - connection->sent, MSG_NOSIGNAL);
    must(sent >= 0 || errno == EAGAIN, "send");
    connection->sent += sent > 0 ? sent : 0;
    int waiting = connection->sent < request.size;
    if (waiting != connection->waiting)
        watch(poller, EPOLL_CTL_MOD, fd, EPOLLIN | (waiting ? EPOLLOUT : 0));
    connection->waiting = waiting;
}

static void ask(int fd, int64_t began) {
    struct connection *connection = &connections[fd];
    connection->busy = 1;
    connection->events = 0;
    connection->missing = -1;
    connection->sent = connection->got.size = 0;
    connection->began = began;
    memset(connection->tail, 0, sizeof connection->tail);
    flush(fd);
}

/* Note the events in what came; the beginning of one that is not whole yet is kept. */
static void note_events(struct connection *connection, const char *data, size_t size) {
    const size_t mark = sizeof MARK - 1;
    int64_t now = now_us();
    append(&connection->got, data, size);
    char *at = connection->got.data, *end = at + connection->got.size, *found;
    while ((found = memmem(at, end - at, MARK, mark)) != NULL && found + mark + STAMP <= end) {
        if (connection->events++ == 0)
            sample(&firsts, now - connection->began);
        sample(&delays, now - strtoll(found + mark, NULL, 10));
        at = found + mark + STAMP;
    }
    if (found == NULL && end - at > (long)mark)
        at = end - mark;
    else if (found != NULL)
        at = found;
    drop(&connection->got, at - connection->got.data);
}

/* Take what came; whether the reply is whole. */
static int receive(int fd) {
    struct connection *connection = &connections[fd];
    ssize_t size = recv(fd, read_buffer, READ_SIZE, 0);
    char *data = read_buffer;
    must(size > 0, "the server closed the connection");
    if (connection->missing == -1) {
        append(&connection->got, data, size);
        char *end = memmem(connection->got.data, connection->got.size, "\r\n\r\n", 4);
        if (end == NULL)
            return 0;
        size_t head = end + 4 - connection->got.data;
        if (strncmp(connection->got.data, "HTTP/1.1 200", 12) != 0) {
            fprintf(stderr, "%.*s\n", (int)connection->got.size, connection->got.data);
            exit(1);
        }
        connection->missing = content_length(connection->got.data, head);
        connection->missing = connection->missing < 0 ? -2 : connection->missing;
        size = connection->got.size - head;
        memcpy(data, connection->got.data + head, size);
        connection->got.size = 0;
    }
    if (connection->missing >= 0) {
        connection->missing -= size;
        return connection->missing == 0;
    }
    if (is_streams)
        note_events(connection, data, size);
    int kept = size >= 7 ? 0 : 7 - size;
    memmove(connection->tail, connection->tail + 7 - kept, kept);
    memcpy(connection->tail + kept, data + size - (7 - kept), 7 - kept);
    return memcmp(connection->tail, "\r\n0\r\n\r\n", 7) == 0;
}

int main(int count, char **words) {
    must(count == 8, "usage: load PORT KIND CONNECTIONS SECONDS RATE EVENTS ROUNDS");
    struct rlimit most = {MOST_FDS, MOST_FDS};
    setrlimit(RLIMIT_NOFILE, &most);
    const char *kind = words[2];
    int wanted = atoi(words[3]), rate = atoi(words[5]), in_stream = atoi(words[6]), rounds = atoi(words[7]);
    int64_t length = atof(words[4]) * 1e6;
    int is_closed = strcmp(kind, "closed") == 0, is_offered = strcmp(kind, "offered") == 0;
    is_streams = !is_closed && !is_offered;
    for (ssize_t size; (size = read(0, read_buffer, READ_SIZE)) > 0;)
        append(&request, read_buffer, size);
    poller = epoll_create1(0);
    struct sockaddr_in address = loopback(atoi(words[1]));
    for (int i = 0; i < wanted; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        must(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
        no_delay(fd);
        watch(poller, EPOLL_CTL_ADD, fd, EPOLLIN);
        fds[i] = free_fds[free_count++] = fd;
        fcntl(fd, F_SETFL, O_NONBLOCK);
        must(fd < MOST_FDS, "too many connections");
    }
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK); /* epoll_wait itself counts whole milliseconds */
    watch(poller, EPOLL_CTL_ADD, timer, EPOLLIN);
    int64_t began = now_us(), warm = began + length / 10, over = warm + length;
    long total = rate * (length / 1e6), sent = 0, answered = 0, left = wanted, lost = 0;
    if (!is_offered)
        for (int i = 0; i < wanted; i++)
            ask(fds[i], now_us());
    struct epoll_event events[512];
    while (is_closed ? now_us() < over : is_offered ? answered < total : left > 0 && now_us() < began + 120000000) {
        if (is_offered) {
            int64_t due;
            while (sent < total && free_count && (due = began + sent * 1000000 / rate) <= now_us()) {
                ask(free_fds[--free_count], due);
                sent++;
            }
            if (sent < total && free_count) {
                due = began + sent * 1000000 / rate;
                struct itimerspec at = {.it_value = {due / 1000000, due % 1000000 * 1000}};
                timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
            }
        }
        int ready = epoll_wait(poller, events, 512, 100);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == timer) {
                ssize_t ticks = read(timer, read_buffer, 8);
                (void)ticks;
                continue;
            }
            struct connection *connection = &connections[fd];
            if (events[i].events & EPOLLOUT)
                flush(fd);
            if (!(events[i].events & ~EPOLLOUT) || !receive(fd))
                continue;
            int64_t now = now_us();
            answered++;
            if (!is_closed || now > warm)
                sample(&latencies, now - connection->began);
            connection->busy = 0;
            lost += is_streams ? in_stream - connection->events : 0;
            if (is_closed || (is_streams && ++connection->rounds < rounds))
                ask(fd, now);
            else if (is_offered)
                free_fds[free_count++] = fd;
            else
                left--;
        }
    }
    double took = (now_us() - (is_closed ? warm : began)) / 1e6;
    for (int i = 0; i < wanted && is_streams; i++)
        lost += connections[fds[i]].busy ? in_stream - connections[fds[i]].events : 0;
    printf("{\"took\": %.4f, \"per_s\": %.1f, \"lost\": %ld", took, latencies.size / took, lost);
    print_spread("", &latencies);
    print_spread("delay_", &delays);
    print_spread("first_", &firsts);
    printf("}\n");
}
