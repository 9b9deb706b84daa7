// What the machine can do at all: hashing files, and writing them into shard folders, on a few threads.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

unsigned char *SHA256(const unsigned char *bytes, size_t count, unsigned char *digest); // libcrypto

struct work {
    char **paths;
    const char *root; // NULL: only hash
    unsigned char *digests;
    int next, end, failed;
};

static int read_all(const char *path, unsigned char **bytes, size_t *room, size_t *size) {
    struct stat stat;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &stat)) return -1;
    if (*room < (size_t)stat.st_size) *bytes = realloc(*bytes, *room = stat.st_size);
    for (*size = 0; *size < (size_t)stat.st_size;) {
        ssize_t got = read(fd, *bytes + *size, stat.st_size - *size);
        if (got <= 0) break;
        *size += got;
    }
    close(fd);
    return 0;
}

static int stage(const char *root, int number, const unsigned char *bytes, size_t size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/staging/%d", root, number);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0444);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size) return -1;
    return close(fd);
}

static void *run(void *argument) {
    struct work *work = argument;
    unsigned char *bytes = NULL;
    size_t room = 0, size;
    for (int start; (start = __atomic_fetch_add(&work->next, 16, __ATOMIC_RELAXED)) < work->end;)
        for (int i = start; i < start + 16 && i < work->end; i++) {
            if (read_all(work->paths[i], &bytes, &room, &size)) { work->failed = 1; continue; }
            SHA256(bytes, size, work->digests + 32 * i);
            if (work->root && stage(work->root, i, bytes, size)) work->failed = 1;
        }
    free(bytes);
    return NULL;
}

static int on_threads(struct work *work, int threads) {
    pthread_t all[64];
    for (int i = 0; i < threads; i++) pthread_create(&all[i], NULL, run, work);
    for (int i = 0; i < threads; i++) pthread_join(all[i], NULL);
    return work->failed;
}

static int name(const char *root, int number, const unsigned char *digest) {
    char hex[65], from[4096], to[4096];
    for (int i = 0; i < 32; i++) sprintf(hex + 2 * i, "%02x", digest[i]);
    snprintf(from, sizeof from, "%s/staging/%d", root, number);
    snprintf(to, sizeof to, "%s/%.2s", root, hex);
    mkdir(to, 0755);
    snprintf(to, sizeof to, "%s/%.2s/%.2s", root, hex, hex + 2);
    mkdir(to, 0755);
    snprintf(to, sizeof to, "%s/%.2s/%.2s/%s", root, hex, hex + 2, hex);
    return rename(from, to);
}

int hash_files(char **paths, int count, int threads) {
    struct work work = {paths, NULL, malloc(32L * count + 1), 0, count, 0};
    int failed = on_threads(&work, threads);
    free(work.digests);
    return failed;
}

int ingest(char **paths, int count, const char *root, int threads, int group, int durable) {
    char staging[4096];
    snprintf(staging, sizeof staging, "%s/staging", root);
    mkdir(staging, 0700);
    int fd = open(root, O_RDONLY);
    struct work work = {paths, root, malloc(32L * count + 1), 0, 0, 0};
    for (int start = 0; start < count; start = work.end) {
        work.next = start;
        work.end = start + group < count ? start + group : count;
        on_threads(&work, threads);
        if (durable && syncfs(fd)) work.failed = 1;
        for (int i = start; i < work.end; i++)
            if (name(root, i, work.digests + 32 * i)) work.failed = 1;
        if (durable && syncfs(fd)) work.failed = 1;
    }
    close(fd);
    free(work.digests);
    return work.failed;
}
