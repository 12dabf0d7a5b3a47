/* The mock engine: `engine PORT`. It answers as vLLM does, at once or at a pace, and is never what a gateway waits for.
 *
 * One thread. A stream's event is one write, as a real engine's is, and carries the moment it was written, so that a
 * client on the same machine can tell how long it took. A request's body steers it: "max_tokens" is how many events,
 * "seed" how many milliseconds lie between two of them (0: as fast as they go; one pace at a time for all streams).
 */
#include "net.h"

struct client {
    int open, waiting, left, sent, pace_ms, usage, active;
    struct bytes got, unsent;
};

struct turn { /* a stream's next event; in order of time, since all streams have one pace */
    int64_t due;
    int fd;
};

static struct client clients[MOST_FDS];
static struct turn turns[1 << 17]; /* a ring */
static unsigned first_turn, past_turn;
static int unpaced[MOST_FDS], unpaced_count, poller;
static struct bytes chat, embeddings;
static int embedded;

static const char TEXT[] = "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog. ";
static const char CHUNK[] = "\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"Compressa-LLM\",\"choices\":";

static void whole(struct bytes *reply, const struct bytes *body) {
    char head[256];
    int size = sprintf(head,
                       "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n",
                       body->size);
    reply->size = 0;
    append(reply, head, size);
    append(reply, body->data, body->size);
}

static void make_chat(void) {
    char text[2048];
    struct bytes body = {0};
    int size = sprintf(text,
                       "{\"id\":\"chatcmpl-0\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"Compressa-LLM\","
                       "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},\"logprobs\":null,"
                       "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":12,\"total_tokens\":52,"
                       "\"completion_tokens\":40}}",
                       TEXT);
    append(&body, text, size);
    whole(&chat, &body);
    free(body.data);
}

static void make_embeddings(int inputs) {
    char text[256];
    struct bytes body = {0};
    append(&body, "{\"object\":\"list\",\"data\":[", 25);
    for (int i = 0; i < inputs; i++) {
        int size = sprintf(text, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":[", i ? "," : "", i);
        append(&body, text, size);
        for (int n = 0; n < 384; n++)
            append(&body, n ? ",-0.0123456789" : "0.0123456789", n ? 14 : 12);
        append(&body, "]}", 2);
    }
    int size = sprintf(text, "],\"model\":\"e\",\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d}}", inputs, inputs);
    append(&body, text, size);
    whole(&embeddings, &body);
    embedded = inputs;
    free(body.data);
}

static void forget(int fd) {
    struct client *client = &clients[fd];
    client->open = client->left = 0;
    client->got.size = client->unsent.size = 0;
    close(fd);
}

static void put(int fd, const char *data, size_t size) {
    struct client *client = &clients[fd];
    if (!client->open)
        return;
    ssize_t sent = 0;
    if (client->unsent.size == 0) {
        sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
            forget(fd);
            return;
        }
        if (sent == (ssize_t)size)
            return;
        sent = sent < 0 ? 0 : sent;
    }
    append(&client->unsent, data + sent, size - sent);
    if (!client->waiting)
        watch(poller, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT);
    client->waiting = 1;
}

static void flush(int fd) {
    struct client *client = &clients[fd];
    ssize_t sent = send(fd, client->unsent.data, client->unsent.size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        forget(fd);
        return;
    }
    if (sent > 0)
        drop(&client->unsent, sent);
    if (client->unsent.size == 0) {
        client->waiting = 0;
        watch(poller, EPOLL_CTL_MOD, fd, EPOLLIN);
    }
}

static int framed(char *to, const char *event, int size) { return sprintf(to, "%x\r\n%s\r\n", size, event); }

static void event(int fd) {
    struct client *client = &clients[fd];
    char usage[128] = "", text[1024], out[2048];
    client->sent++;
    client->left--;
    if (client->usage)
        sprintf(usage, ",\"usage\":{\"prompt_tokens\":12,\"total_tokens\":%d,\"completion_tokens\":%d}", 12 + client->sent,
                client->sent);
    int size = sprintf(text,
                       "data: {\"id\":\"chatcmpl-0\",%s[{\"index\":0,\"delta\":{\"content\":\" %016lld\"},\"logprobs\":null,"
                       "\"finish_reason\":null}]%s}\n\n",
                       CHUNK, (long long)now_us(), usage);
    int total = framed(out, text, size);
    if (client->left == 0) {
        if (client->usage) {
            size = sprintf(text, "data: {\"id\":\"chatcmpl-0\",%s[]%s}\n\n", CHUNK, usage);
            total += framed(out + total, text, size);
        }
        total += sprintf(out + total, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    }
    put(fd, out, total);
}

static void plan(int64_t due, int fd) { turns[past_turn++ & ((1 << 17) - 1)] = (struct turn){due, fd}; }

static long number(const char *body, const char *name) {
    const char *found = strstr(body, name);
    return found ? strtol(found + strlen(name), NULL, 10) : 0;
}

static void answer(int fd, char *head, char *body, size_t size) {
    static const char stream_head[] = "HTTP/1.1 200 OK\r\nserver: uvicorn\r\n"
                                      "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    struct client *client = &clients[fd];
    char kept = body[size];
    body[size] = 0;
    if (strncmp(head, "POST /v1/embeddings", 19) == 0) {
        int inputs = 1;
        for (char *at = body; (at = memmem(at, size - (at - body), "\",\"", 3)) != NULL; at += 3)
            inputs++;
        if (inputs != embedded)
            make_embeddings(inputs);
        put(fd, embeddings.data, embeddings.size);
    } else if (size < 65536 && strstr(body, "\"stream\":true") != NULL) {
        client->sent = 0;
        client->left = number(body, "\"max_tokens\":");
        client->pace_ms = number(body, "\"seed\":");
        client->usage = strstr(body, "continuous_usage_stats") != NULL;
        put(fd, stream_head, sizeof stream_head - 1);
        if (client->pace_ms) {
            event(fd);
            plan(now_us() + client->pace_ms * 1000, fd);
        } else
            unpaced[unpaced_count++] = fd;
    } else
        put(fd, chat.data, chat.size);
    body[size] = kept;
}

static void receive(int fd) {
    struct client *client = &clients[fd];
    ssize_t size = recv(fd, read_buffer, READ_SIZE, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0) {
        forget(fd);
        return;
    }
    append(&client->got, read_buffer, size);
    append(&client->got, "", 1); /* room for the end of a string */
    client->got.size--;
    char *end = memmem(client->got.data, client->got.size, "\r\n\r\n", 4);
    if (end == NULL)
        return;
    size_t head = end + 4 - client->got.data;
    long length = content_length(client->got.data, head);
    if (client->got.size < head + (length < 0 ? 0 : length))
        return;
    answer(fd, client->got.data, client->got.data + head, length < 0 ? 0 : length);
    if (client->open)
        drop(&client->got, head + (length < 0 ? 0 : length));
}

static void send_due(void) {
    int64_t now = now_us();
    while (first_turn != past_turn && turns[first_turn & ((1 << 17) - 1)].due <= now) {
        struct turn turn = turns[first_turn++ & ((1 << 17) - 1)];
        struct client *client = &clients[turn.fd];
        if (!client->left)
            continue;
        event(turn.fd);
        if (client->left)
            plan(turn.due + client->pace_ms * 1000, turn.fd);
    }
    int kept = 0;
    for (int i = 0; i < unpaced_count; i++) {
        struct client *client = &clients[unpaced[i]];
        if (client->left && client->unsent.size == 0)
            event(unpaced[i]);
        if (client->left)
            unpaced[kept++] = unpaced[i];
    }
    unpaced_count = kept;
}

int main(int count, char **words) {
    must(count == 2, "usage: engine PORT");
    struct rlimit most = {MOST_FDS, MOST_FDS};
    setrlimit(RLIMIT_NOFILE, &most);
    make_chat();
    make_embeddings(2048);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = loopback(atoi(words[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    must(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    must(listen(listener, 4096) == 0, "listen");
    poller = epoll_create1(0);
    watch(poller, EPOLL_CTL_ADD, listener, EPOLLIN);
    struct epoll_event events[512];
    for (;;) {
        int64_t wait = 1000;
        if (unpaced_count)
            wait = 0;
        else if (first_turn != past_turn) {
            wait = (turns[first_turn & ((1 << 17) - 1)].due - now_us() + 999) / 1000;
            wait = wait < 0 ? 0 : wait;
        }
        int ready = epoll_wait(poller, events, 512, wait);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int taken;
                while ((taken = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    no_delay(taken);
                    clients[taken].open = 1;
                    clients[taken].waiting = 0;
                    watch(poller, EPOLL_CTL_ADD, taken, EPOLLIN);
                }
                continue;
            }
            if (clients[fd].open && (events[i].events & EPOLLOUT))
                flush(fd);
            if (clients[fd].open && (events[i].events & ~EPOLLOUT))
                receive(fd);
        }
        send_due();
    }
}
