/* A stand-in for libnvidia-ml.so.1, driven by the folder FAKE_NVML_DIR of one simulated node.
 *
 * gpuN.state holds identity and faults, read at each call; gpuN.sensors the registers, which the
 * firmware (firmware.py) writes each second; `driver` what concerns the library as a whole:
 *   mismatch=1   every call says that library and driver have different versions
 *   loaded=0     the driver is not loaded
 *   hidden=3     this GPU is not there for a connection opened from now on
 *   error=nvmlDeviceGetPowerUsage:999   this function fails with this code
 * A GPU that is lost is hidden from later connections, too, and stays lost to this one until it is
 * reset. A hung one blocks every call about it (or, with hang_in, those of one group of readings).
 * Lines `UUID XID` appended to the file `events` come out of nvmlEventSetWait_v2 once each.
 * Built with -DOLD_DRIVER, the functions of newer drivers are missing.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct device { int id; int lost; } *Device;
enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7,
       NOT_LOADED = 9, TIMEOUT = 10, LOST = 15, MISMATCH = 18, VERSION = 25 };
#define MAX 128
#define LINKS 18
static struct device devices[MAX];
static Device visible[MAX];
static int count, opened;

typedef struct { char text[8192]; struct timespec stamp; ino_t inode; } File;
static File states[MAX], sensors[MAX];

static const char *node(void) {
    const char *folder = getenv("FAKE_NVML_DIR");
    return folder ? folder : "/nonexistent";
}

/* The file's text, read again only when it was replaced. */
static const char *load(File *file, const char *name) {
    char path[4096];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", node(), name);
    if (stat(path, &status)) { file->text[0] = 0; file->inode = 0; return NULL; }
    if (status.st_ino == file->inode && !memcmp(&status.st_mtim, &file->stamp, sizeof file->stamp))
        return file->text;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return NULL;
    ssize_t size = read(descriptor, file->text + 1, sizeof file->text - 2);
    close(descriptor);
    file->text[0] = '\n';
    file->text[size > 0 ? size + 1 : 1] = 0;
    file->stamp = status.st_mtim;
    file->inode = status.st_ino;
    return file->text;
}

static const char *find(const char *text, const char *key) {
    char pattern[80];
    snprintf(pattern, sizeof pattern, "\n%s=", key);
    const char *at = text ? strstr(text, pattern) : NULL;
    return at ? at + strlen(pattern) : NULL;
}

static long long number(const char *text, const char *key, long long missing) {
    const char *at = find(text, key);
    return at ? atoll(at) : missing;
}

static void word(const char *text, const char *key, char *out, size_t size) {
    const char *at = find(text, key);
    size_t length = at ? strcspn(at, "\n") : 0;
    if (length >= size) length = size - 1;
    if (at) memcpy(out, at, length);
    out[length] = 0;
}

static const char *state(int id) {
    char name[32];
    snprintf(name, sizeof name, "gpu%d.state", id);
    return load(&states[id], name);
}

static long long reg(Device device, const char *key) {
    char name[32];
    snprintf(name, sizeof name, "gpu%d.sensors", device->id);
    return number(load(&sensors[device->id], name), key, 0);
}

static const char *driver(void) {
    static File file;
    return load(&file, "driver");
}

static int library(const char *function) {
    const char *text = driver();
    char failing[128];
    if (!number(text, "loaded", 1)) return NOT_LOADED;
    if (number(text, "mismatch", 0)) return MISMATCH;
    word(text, "error", failing, sizeof failing);
    char *colon = strchr(failing, ':');
    if (colon) {
        *colon = 0;
        if (!strcmp(failing, function)) return atoi(colon + 1);
    }
    return opened ? OK : UNINITIALIZED;
}

/* What every call about a GPU meets first. */
static int gate(Device device, const char *function, const char *group) {
    int failed = library(function);
    if (failed) return failed;
    if (!device || device < devices || device >= devices + MAX) return INVALID;
    for (;;) {
        const char *text = state(device->id);
        char where[32];
        if (!text) return LOST;
        word(text, "hang_in", where, sizeof where);
        if (!number(text, "hung", 0) || (where[0] && strcmp(where, group))) {
            long long delay = number(text, "delay_ms", 0);
            if (delay) usleep((useconds_t)delay * 1000);
            if (number(text, "lost", 0)) device->lost = 1 + (int)number(text, "resets", 0);
            /* sticky: only a reset, which counts up, gives this connection the GPU back */
            if (device->lost && device->lost == 1 + (int)number(text, "resets", 0)) return LOST;
            device->lost = 0;
            return OK;
        }
        usleep(20000);
    }
}
#define GATE(group) do { int failed = gate(device, __func__, group); if (failed) return failed; } while (0)
#define NUMBER(name, group, type, key) \
    int name(Device device, type *out) { GATE(group); *out = (type)reg(device, key); return OK; }
#define CONSTANT(name, group, type, value) \
    int name(Device device, type *out) { GATE(group); *out = value; return OK; }
#define ABSENT(name, group) int name(Device device) { GATE(group); return UNSUPPORTED; }
#define TEXT(name, key) \
    int name(Device device, char *out, u32 size) { GATE("identify"); word(state(device->id), key, out, size); return OK; }

static int look(void) {
    const char *text = driver();
    int failed;
    opened = 1;
    if ((failed = library("nvmlInitWithFlags"))) { opened = 0; return failed; }
    long long hidden = number(text, "hidden", -1);
    count = 0;
    for (int id = 0; id < MAX; id++) {
        const char *found = state(id);
        devices[id].id = id;
        devices[id].lost = 0;
        if (found && !number(found, "lost", 0) && id != hidden) visible[count++] = &devices[id];
    }
    return OK;
}

int nvmlInitWithFlags(u32 flags) { (void)flags; return look(); }
int nvmlInit_v2(void) { return look(); }
int nvmlShutdown(void) { opened = 0; return OK; }
const char *nvmlErrorString(int code) { (void)code; return "as the stand-in was told"; }

int nvmlSystemGetDriverVersion(char *out, u32 size) {
    int failed = library(__func__);
    if (failed) return failed;
    word(driver(), "version", out, size);
    if (!out[0]) snprintf(out, size, "575.57.08");
    return OK;
}
int nvmlSystemGetCudaDriverVersion(int *out) { *out = 12080; return library(__func__); }
int nvmlDeviceGetCount_v2(u32 *out) { *out = (u32)count; return library(__func__); }
int nvmlDeviceGetHandleByIndex_v2(u32 index, Device *out) {
    int failed = library(__func__);
    if (failed) return failed;
    if (index >= (u32)count) return INVALID;
    Device device = visible[index];
    GATE("identify");
    *out = device;
    return OK;
}

static Device part_of(Device device, int *place);
int nvmlDeviceGetName(Device device, char *out, u32 size) {
    int place;
    if (part_of(device, &place)) { snprintf(out, size, "NVIDIA H100 80GB HBM3 MIG 3g.40gb"); return OK; }
    GATE("identify");
    word(state(device->id), "name", out, size);
    return OK;
}
TEXT(nvmlDeviceGetSerial, "serial")
int nvmlDeviceGetUUID(Device device, char *out, u32 size) {
    int place; if (part_of(device, &place)) { snprintf(out, size, "MIG-%d", place); return OK; }
    GATE("identify");
    word(state(device->id), "uuid", out, size);
    return OK;
}
int nvmlDeviceGetVbiosVersion(Device device, char *out, u32 size) { GATE("identify"); snprintf(out, size, "96.00.99.00.01"); return OK; }
CONSTANT(nvmlDeviceGetArchitecture, "identify", u32, 9)
int nvmlDeviceGetMinorNumber(Device device, u32 *out) { GATE("identify"); *out = (u32)device->id; return OK; }

typedef struct { char legacy[16]; u32 domain, bus, device, id, subsystem; char address[32]; } Pci;
int nvmlDeviceGetPciInfo_v3(Device device, Pci *out) {
    GATE("identify");
    char address[32];
    memset(out, 0, sizeof *out);
    word(state(device->id), "pci_bus_id", address, sizeof address);
    snprintf(out->address, sizeof out->address, "0000%.20s", address);
    sscanf(address, "%x:%x:%x", &out->domain, &out->bus, &out->device);
    return OK;
}

int nvmlDeviceGetTemperature(Device device, int sensor, u32 *out) {
    GATE("presence");
    if (sensor) return INVALID;
    *out = (u32)reg(device, "temperature");
    return OK;
}
int nvmlDeviceGetTemperatureThreshold(Device device, int threshold, u32 *out) {
    static const char *keys[] = {"shutdown", "slowdown", "memory_max", "gpu_max"};
    GATE("limits");
    if (threshold < 0 || threshold > 3) return UNSUPPORTED;
    *out = (u32)reg(device, keys[threshold]);
    return OK;
}
typedef struct { u32 gpu, memory; } Use;
int nvmlDeviceGetUtilizationRates(Device device, Use *out) {
    GATE("load");
    out->gpu = (u32)reg(device, "utilization");
    out->memory = (u32)reg(device, "memory_activity");
    return OK;
}
#define ENGINE(name) int name(Device device, u32 *share, u32 *period) { GATE("load"); *share = 0; *period = 167000; return OK; }
ENGINE(nvmlDeviceGetEncoderUtilization)
ENGINE(nvmlDeviceGetDecoderUtilization)
ENGINE(nvmlDeviceGetJpgUtilization)
ENGINE(nvmlDeviceGetOfaUtilization)

typedef struct { u64 total, free, used; } Memory;
typedef struct { u32 version; u64 total, reserved, free, used; } Memory2;
static Device part_of(Device device, int *place);
int nvmlDeviceGetMemoryInfo(Device device, Memory *out) {
    int place;
    Device whole = part_of(device, &place);
    if (whole) {
        out->total = (u64)reg(whole, "memory_total") / 2;
        out->used = (u64)reg(whole, "memory_used") / 2;
        out->free = out->total - out->used;
        return OK;
    }
    GATE("load");
    out->total = (u64)reg(device, "memory_total");
    out->used = (u64)reg(device, "memory_used");
    out->free = (u64)reg(device, "memory_free");
    return OK;
}
#ifndef OLD_DRIVER
int nvmlDeviceGetMemoryInfo_v2(Device device, Memory2 *out) {
    GATE("load");
    if (out->version != (sizeof *out | 2u << 24)) return VERSION;
    out->total = (u64)reg(device, "memory_total");
    out->reserved = (u64)reg(device, "memory_reserved");
    out->used = (u64)reg(device, "memory_used");
    out->free = (u64)reg(device, "memory_free");
    return OK;
}
typedef struct { u32 version; int sensor, degrees; } Temperature;
int nvmlDeviceGetTemperatureV(Device device, Temperature *out) { GATE("presence"); out->degrees = (int)reg(device, "temperature"); return OK; }
typedef struct { u32 version; int degrees; } Margin;
int nvmlDeviceGetMarginTemperature(Device device, Margin *out) { GATE("load"); out->degrees = (int)reg(device, "margin"); return OK; }
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, "load", u64, "reasons")
#endif
typedef struct { u64 total, free, used; } Window;
int nvmlDeviceGetBAR1MemoryInfo(Device device, Window *out) {
    GATE("load");
    out->total = (u64)reg(device, "bar1_total");
    out->used = (u64)reg(device, "bar1_used");
    out->free = out->total - out->used;
    return OK;
}
int nvmlDeviceGetTotalEnergyConsumption(Device device, u64 *out) {
    GATE("load");
    *out = (u64)reg(device, "energy");
    if (getenv("FAKE_NVML_ENERGY_IS_CLOCK")) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        *out = (u64)now.tv_sec * 1000 + (u64)now.tv_nsec / 1000000;
    }
    return OK;
}
static const char *CLOCKS[] = {"clock_sm", "clock_sm", "clock_memory", "clock_video"};
static const char *MAX_CLOCKS[] = {"clock_max_sm", "clock_max_sm", "clock_max_memory", "clock_max_video"};
int nvmlDeviceGetClockInfo(Device device, u32 domain, u32 *out) {
    GATE("load");
    if (domain > 3) return INVALID;
    *out = (u32)reg(device, CLOCKS[domain]);
    return OK;
}
int nvmlDeviceGetMaxClockInfo(Device device, u32 domain, u32 *out) {
    GATE("limits");
    if (domain > 3) return INVALID;
    *out = (u32)reg(device, MAX_CLOCKS[domain]);
    return OK;
}
NUMBER(nvmlDeviceGetPerformanceState, "load", u32, "performance_state")
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, "load", u64, "reasons")
ABSENT(nvmlDeviceGetViolationStatus, "load")
ABSENT(nvmlDeviceGetNumFans, "load")
ABSENT(nvmlDeviceGetFanSpeed_v2, "load")
NUMBER(nvmlDeviceGetPowerUsage, "load", u32, "power")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "limits", u32, "power_limit")
ABSENT(nvmlDeviceGetPowerManagementLimitConstraints, "limits")
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, "limits", u32, "power_limit")

int nvmlDeviceGetMemoryErrorCounter(Device device, int error, int scope, int location, u64 *out) {
    GATE("health");
    (void)scope;
    if (location != 2 && location != 7) return UNSUPPORTED;
    *out = location == 2 ? (u64)reg(device, error ? "ecc_uncorrected" : "ecc_corrected")
                         : error ? (u64)reg(device, "sram_uncorrected") : 0;
    return OK;
}
typedef struct { u32 version; u64 counts[11]; u32 exceeded; } Sram;
#ifndef OLD_DRIVER
int nvmlDeviceGetSramEccErrorStatus(Device device, Sram *out) {
    GATE("health");
    if (out->version != (sizeof *out | 1u << 24)) return VERSION;
    memset(out->counts, 0, sizeof out->counts);
    out->counts[6] = (u64)reg(device, "sram_uncorrected");
    out->exceeded = (u32)reg(device, "sram_exceeded");
    return OK;
}
typedef struct { u32 version, flag; } Unrepairable;
int nvmlDeviceGetUnrepairableMemoryFlag_v1(Device device, Unrepairable *out) { GATE("health"); out->flag = (u32)reg(device, "unrepairable"); return OK; }
#endif
int nvmlDeviceGetRemappedRows(Device device, u32 *correctable, u32 *uncorrectable, u32 *pending, u32 *failure) {
    GATE("health");
    *correctable = (u32)reg(device, "remap_correctable");
    *uncorrectable = (u32)reg(device, "remap_uncorrectable");
    *pending = (u32)reg(device, "remap_pending");
    *failure = (u32)reg(device, "remap_failure");
    return OK;
}
typedef struct { u32 max, high, partial, low, none; } Banks;
int nvmlDeviceGetRowRemapperHistogram(Device device, Banks *out) {
    GATE("health");
    memset(out, 0, sizeof *out);
    out->max = (u32)reg(device, "banks_max");
    out->none = (u32)reg(device, "banks_none");
    return OK;
}
int nvmlDeviceGetRetiredPagesPendingStatus(Device device, u32 *out) {
    GATE("health");
    if (reg(device, "pages_retired") < 0) return UNSUPPORTED;
    *out = (u32)reg(device, "pages_pending");
    return OK;
}

typedef struct { uint8_t cluster[16]; int status; u32 clique; uint8_t state; } OldFabric;
int nvmlDeviceGetGpuFabricInfo(Device device, OldFabric *out) {
    GATE("health");
    memset(out, 0, sizeof *out);
    out->clique = 1;
    out->state = 3;
    return OK;
}
#ifndef OLD_DRIVER
typedef struct { u32 version; uint8_t cluster[16]; int status; u32 clique; uint8_t state; u32 mask; uint8_t summary; } Fabric;
int nvmlDeviceGetGpuFabricInfoV(Device device, Fabric *out) {
    GATE("health");
    if (out->version != (sizeof *out | 3u << 24)) return VERSION;
    memset(out->cluster, 0, sizeof out->cluster);
    out->status = 0;
    out->clique = 1;
    out->state = 3;
    out->mask = 2u | 2u << 2 | (reg(device, "fabric_unhealthy") ? 1u : 2u) << 4 | 2u << 6 | 1u << 8;
    out->summary = 1;
    return OK;
}
#endif

int nvmlDeviceGetNvLinkState(Device device, u32 link, u32 *out) {
    GATE("links");
    if (link >= LINKS) return INVALID;
    *out = !(reg(device, "links_down") >> link & 1);
    return OK;
}
CONSTANT(nvmlDeviceGetMaxPcieLinkGeneration, "links", u32, 5)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "links", u32, "pcie_generation")
CONSTANT(nvmlDeviceGetMaxPcieLinkWidth, "links", u32, 16)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "links", u32, "pcie_width")
NUMBER(nvmlDeviceGetPcieReplayCounter, "links", u32, "pcie_replays")

typedef struct { u32 id, scope; int64_t at, latency; u32 type; int result; union { double d; u64 whole; } value; } Field;
static int field(Device device, Field *asked) {
    static const struct { u32 id; const char *key; } known[] = {
        {82, "memory_temperature"}, {94, "pcie_replays"}, {186, "power"}, {187, "power_min"},
        {188, "power_limit"}, {189, "power_limit"}, {190, "power_limit"}, {192, "power_limit"},
        {230, "recovery"}, {269, "software_ns"}, {270, "thermal_ns"}, {271, "brake_ns"},
    };
    u32 id = asked->id;
    asked->type = 3;
    if (id == 29 || id == 30) {
        if (reg(device, "pages_retired") < 0) return UNSUPPORTED;
        asked->value.whole = id == 30 ? (u64)reg(device, "pages_retired") : 0;
        return OK;
    }
    if (id == 186 && asked->scope) return UNSUPPORTED;
    if (id == 138 || id == 139) {
        if (asked->scope != 0xFFFFFFFF) return INVALID;
        asked->value.whole = (u64)reg(device, id == 138 ? "nvlink_tx" : "nvlink_rx");
        return OK;
    }
    if (id >= 161 && id <= 163) {
        if (asked->scope >= LINKS) return INVALID;
        asked->value.whole = id == 163 && !asked->scope ? (u64)reg(device, "link_crc") : 0;
        return OK;
    }
    asked->value.whole = 0;
    if (id == 74 || id == 76 || id == 95 || id == 169 || (id >= 173 && id <= 180)) return OK;
    if (id == 197 || id == 198) { /* 32 bits of bytes, as the hardware wraps */
        asked->value.whole = (u64)(reg(device, id == 197 ? "pcie_tx" : "pcie_rx") * 1024) & 0xFFFFFFFF;
        return OK;
    }
    for (size_t place = 0; place < sizeof known / sizeof *known; place++)
        if (known[place].id == id) { asked->value.whole = (u64)reg(device, known[place].key); return OK; }
    return UNSUPPORTED;
}
int nvmlDeviceGetFieldValues(Device device, int wanted, Field *fields) {
    const char *group = wanted && fields[0].id == 82 ? "load" : wanted && fields[0].id == 230 ? "health"
        : wanted && fields[0].id == 187 ? "limits" : "links";
    GATE(group);
    for (int place = 0; place < wanted; place++) fields[place].result = field(device, &fields[place]);
    return OK;
}

/* Partitions: two halves of a GPU, handed out behind the real ones. */
static char parts[MAX][8];
static Device part_of(Device device, int *place) {
    char *at = (char *)device;
    if (at < &parts[0][0] || at >= &parts[0][0] + sizeof parts) return NULL;
    *place = (int)((at - &parts[0][0]) % 8);
    return &devices[(at - &parts[0][0]) / 8];
}
int nvmlDeviceGetMigMode(Device device, u32 *current, u32 *pending) {
    GATE("limits");
    *current = *pending = (u32)reg(device, "mig");
    return OK;
}
CONSTANT(nvmlDeviceGetMaxMigDeviceCount, "mig", u32, 2)
int nvmlDeviceGetMigDeviceHandleByIndex(Device device, u32 index, Device *out) {
    GATE("mig");
    if (index >= 2 || !reg(device, "mig")) return NOT_FOUND;
    *out = (Device)(void *)&parts[device->id][index];
    return OK;
}
int nvmlDeviceGetGpuInstanceId(Device device, u32 *out) { int place; if (!part_of(device, &place)) return INVALID; *out = (u32)place + 1; return OK; }
int nvmlDeviceGetComputeInstanceId(Device device, u32 *out) { int place; if (!part_of(device, &place)) return INVALID; *out = 0; return OK; }

typedef struct { u32 pid; u64 memory; u32 gi, ci; } Process;
int nvmlDeviceGetComputeRunningProcesses_v3(Device device, u32 *size, Process *out) {
    GATE("processes");
    long long pids[2] = {reg(device, "pid"), reg(device, "stray_pid")};
    long long memory[2] = {reg(device, "pid_memory"), 1LL << 30};
    u32 found = 0;
    for (int place = 0; place < 2; place++) {
        if (!pids[place]) continue;
        if (out && found < *size) out[found] = (Process){(u32)pids[place], (u64)memory[place], 0, 0};
        found++;
    }
    int fits = out ? found <= *size : !found;
    *size = found;
    return fits ? OK : TOO_SMALL;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Device device, u32 *size, Process *out) { GATE("processes"); (void)out; *size = 0; return OK; }
ABSENT(nvmlDeviceGetProcessesUtilizationInfo, "processes")
CONSTANT(nvmlDeviceGetPersistenceMode, "limits", u32, 1)
CONSTANT(nvmlDeviceGetAccountingMode, "limits", u32, 0)
CONSTANT(nvmlDeviceGetComputeMode, "limits", u32, 0)
int nvmlDeviceGetEccMode(Device device, u32 *current, u32 *pending) { GATE("limits"); *current = *pending = 1; return OK; }

/* Profiling samples hold the registers of their moment. */
typedef struct { u32 version, supported; } Support;
typedef struct { u32 id; int result; double value; char *name, *unit, *longer; } Metric;
typedef struct sample { double values[98]; } *Sample;
typedef struct { u32 version, wanted; Sample first, second; Metric metrics[333]; } Wanted;
static const struct { int id; const char *key; double scale; } METRICS[] = {
    {1, "gpm_graphics", 1000}, {2, "gpm_sm", 1000}, {3, "gpm_occupancy", 1000}, {4, "gpm_integer", 1000},
    {5, "gpm_tensor", 1000}, {6, "gpm_dfma", 1000}, {7, "gpm_hmma", 1000}, {9, "gpm_imma", 1000},
    {10, "gpm_dram", 1000}, {11, "gpm_fp64", 1000}, {12, "gpm_fp32", 1000}, {13, "gpm_fp16", 1000},
    {20, "gpm_pcie_tx", 1024}, {21, "gpm_pcie_rx", 1024}, {60, "gpm_nvlink_rx", 1024}, {61, "gpm_nvlink_tx", 1024},
};
#ifndef OLD_DRIVER
int nvmlGpmQueryDeviceSupport(Device device, Support *out) { GATE("gpm"); out->supported = 1; return OK; }
#endif
int nvmlGpmSampleAlloc(Sample *out) { *out = calloc(1, sizeof **out); return OK; }
int nvmlGpmSampleFree(Sample sample) { free(sample); return OK; }
int nvmlGpmSampleGet(Device device, Sample sample) {
    GATE("gpm");
    for (size_t place = 0; place < sizeof METRICS / sizeof *METRICS; place++)
        sample->values[METRICS[place].id] = (double)reg(device, METRICS[place].key) / METRICS[place].scale;
    return OK;
}
int nvmlGpmMigSampleGet(Device device, u32 instance, Sample sample) { (void)instance; return nvmlGpmSampleGet(device, sample); }
int nvmlGpmMetricsGet(Wanted *wanted) {
    for (u32 place = 0; place < wanted->wanted; place++) {
        Metric *metric = &wanted->metrics[place];
        metric->result = metric->id < 98 ? OK : UNSUPPORTED;
        if (!metric->result) metric->value = wanted->second->values[metric->id];
    }
    return OK;
}

/* Events. */
typedef struct { Device device; u64 type, data; u32 gi, ci; } Event;
static long delivered;
int nvmlEventSetCreate(void **out) { *out = &delivered; return library(__func__); }
int nvmlDeviceGetSupportedEventTypes(Device device, u64 *out) { GATE("identify"); *out = 0xC00A; return OK; }
int nvmlDeviceRegisterEvents(Device device, u64 types, void *set) { (void)types; (void)set; GATE("identify"); return OK; }
int nvmlEventSetWait_v2(void *set, Event *out, u32 milliseconds) {
    char path[4096], line[128], uuid[96], known[96];
    int failed = library(__func__);
    (void)set;
    for (u32 waited = 0; !failed; waited += 100) {
        snprintf(path, sizeof path, "%s/events", node());
        FILE *file = fopen(path, "r");
        if (file) {
            fseek(file, delivered, SEEK_SET);
            if (fgets(line, sizeof line, file) && strchr(line, '\n')) {
                unsigned long long code;
                delivered = ftell(file);
                fclose(file);
                if (sscanf(line, "%95s %llu", uuid, &code) != 2) continue;
                for (int place = 0; place < count; place++) {
                    word(state(visible[place]->id), "uuid", known, sizeof known);
                    if (strcmp(known, uuid)) continue;
                    *out = (Event){visible[place], code > 999 ? code : 8, code > 999 ? 0 : code, 0, 0};
                    return OK;
                }
                continue;
            }
            fclose(file);
        }
        if (waited >= milliseconds) return TIMEOUT;
        usleep(100000);
        failed = library(__func__);
    }
    return failed;
}
