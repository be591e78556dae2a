/* Answers mmap, madvise and sysconf as a kernel would whose pages are as large as PAGES says: addresses and offsets
   that lie within such a page are refused, and mappings start on one. The C library's own calls do not come here. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static size_t page(void) {
    static size_t size;
    if (!size) {
        const char *text = getenv("PAGES");
        size = text ? strtoul(text, 0, 10) : 4096;
    }
    return size;
}

static size_t whole(size_t length) { return (length + page() - 1) / page() * page(); }
static int is_within(uint64_t place) { return place % page() != 0; }

static void *refused(void) {
    errno = EINVAL;
    return MAP_FAILED;
}

/* Where a mapping of that length may start. */
static char *room(size_t length) {
    char *start = (char *)syscall(SYS_mmap, 0, length + page(), PROT_NONE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) return start;
    char *first = (char *)(uintptr_t)whole((uintptr_t)start);
    if (first > start) syscall(SYS_munmap, start, first - start);
    if (start + page() > first) syscall(SYS_munmap, first + length, start + page() - first);
    return first;
}

void *mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset) {
    int is_fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
    if (is_within(offset) || (is_fixed && is_within((uintptr_t)at))) return refused();
    if (is_fixed) return (void *)syscall(SYS_mmap, at, length, prot, flags, fd, offset);
    char *first = room(whole(length));
    if (first == MAP_FAILED) return first;
    return (void *)syscall(SYS_mmap, first, length, prot, flags | MAP_FIXED, fd, offset);
}

void *mmap64(void *at, size_t length, int prot, int flags, int fd, off_t offset) {
    return mmap(at, length, prot, flags, fd, offset);
}

void *mremap(void *old, size_t old_length, size_t length, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    void *at = va_arg(rest, void *);
    va_end(rest);
    if (is_within((uintptr_t)old)) return refused();
    if (flags & MREMAP_FIXED) {
        if (is_within((uintptr_t)at)) return refused();
    } else {
        at = room(whole(length));
        if (at == MAP_FAILED) return at;
    }
    return (void *)syscall(SYS_mremap, old, old_length, length, flags | MREMAP_MAYMOVE | MREMAP_FIXED, at);
}

int munmap(void *at, size_t length) {
    if (is_within((uintptr_t)at)) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_munmap, at, length);
}

int madvise(void *at, size_t length, int advice) {
    if (is_within((uintptr_t)at)) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_madvise, at, whole(length), advice);
}

long sysconf(int name) {
    static long (*theirs)(int);
    extern void *dlsym(void *, const char *);
    if (name == _SC_PAGESIZE) return page();
    if (!theirs) theirs = (long (*)(int))dlsym((void *)-1, "sysconf");
    return theirs(name);
}
