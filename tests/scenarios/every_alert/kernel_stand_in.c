/* Fake system calls of a simulated machine: file systems, clock state, and whether systemd booted it.
 * Preloaded into the exporter of the machine. KERNEL_STAND_IN is the folder with these files:
 *   filesystems   one line per mount point: PATH BLOCKS FREE READONLY, blocks of 4096 bytes;
 *                 with -1 BLOCKS the call fails (ESTALE)
 *   clock         STATE OFFSET_NANOSECONDS MAXERROR_MICROSECONDS, as adjtimex(2) returns them
 *   systemd       exists if systemd booted the machine
 * Without an entry the call returns the data of the real machine.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>

static FILE *open_file(const char *name) {
    const char *folder = getenv("KERNEL_STAND_IN");
    char path[4096];
    if (!folder) return NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return fopen(path, "re");
}

struct filesystem { long long blocks, free; int readonly; };

static int told(const char *path, struct filesystem *out) {
    char name[1024];
    int found = 0;
    FILE *file = open_file("filesystems");
    if (!file) return 0;
    while (!found && fscanf(file, "%1023s %lld %lld %d", name, &out->blocks, &out->free, &out->readonly) == 4)
        found = !strcmp(name, path);
    fclose(file);
    return found;
}

#define STATVFS(name, type) \
    int name(const char *path, struct type *out) { \
        struct filesystem found; \
        if (!told(path, &found)) \
            return ((int (*)(const char *, struct type *))dlsym(RTLD_NEXT, #name))(path, out); \
        if (found.blocks < 0) { errno = ESTALE; return -1; } \
        memset(out, 0, sizeof *out); \
        out->f_bsize = out->f_frsize = 4096; \
        out->f_blocks = (unsigned long long)found.blocks; \
        out->f_bfree = out->f_bavail = (unsigned long long)found.free; \
        out->f_files = out->f_ffree = 1000000; \
        out->f_flag = found.readonly ? ST_RDONLY : 0; \
        return 0; \
    }
STATVFS(statvfs, statvfs)
STATVFS(statvfs64, statvfs64)

int adjtimex(struct timex *out) {
    int state = ((int (*)(struct timex *))dlsym(RTLD_NEXT, "adjtimex"))(out);
    FILE *file = open_file("clock");
    if (!file) return state;
    long offset, most;
    if (fscanf(file, "%d %ld %ld", &state, &offset, &most) == 3) {
        out->offset = offset;
        out->maxerror = most;
        out->status = STA_NANO | (state == TIME_ERROR ? STA_UNSYNC : 0);
    }
    fclose(file);
    return state;
}

static const char *moved(const char *path, char *room, size_t size) {
    const char *folder = getenv("KERNEL_STAND_IN");
    if (!folder || !path || strcmp(path, "/run/systemd/system")) return path;
    snprintf(room, size, "%s/systemd", folder);
    return room;
}

#define STAT(name, type) \
    int name(const char *path, struct type *out) { \
        char room[4096]; \
        return ((int (*)(const char *, struct type *))dlsym(RTLD_NEXT, #name))( \
            moved(path, room, sizeof room), out); \
    }
STAT(stat, stat)
STAT(stat64, stat64)
