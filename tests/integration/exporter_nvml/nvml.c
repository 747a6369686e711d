/* A stand-in for libnvidia-ml.so.1 with as many GPUs as the folder FAKE_NVML_DIR has gpuN.state files.
 *
 * lost=1 makes every call about that GPU return GPU_IS_LOST and hides it from a connection opened
 * later; hung=1 makes every call about it block for good. Of what a driver has, it leaves some out
 * (row remaps of GPU 0, L1 error counters, one field value), as real ones do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, LOST = 15 };
#define MAX 16
static int ids[MAX];

static int flag(int id, const char *name) {
    char path[4096], line[256];
    int value = -1;
    snprintf(path, sizeof path, "%s/gpu%d.state", getenv("FAKE_NVML_DIR"), id);
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    value = 0;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == '=') value = atoi(line + strlen(name) + 1);
    fclose(file);
    return value;
}

static void text(int id, const char *name, char *out, unsigned size) {
    char path[4096], line[256];
    snprintf(path, sizeof path, "%s/gpu%d.state", getenv("FAKE_NVML_DIR"), id);
    FILE *file = fopen(path, "r");
    out[0] = 0;
    if (!file) return;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == '=') {
            line[strcspn(line, "\n")] = 0;
            snprintf(out, size, "%s", line + strlen(name) + 1);
        }
    fclose(file);
}

static int count;
static int look(void) {
    count = 0;
    for (int id = 0; id < MAX; id++)
        if (flag(id, "lost") == 0) ids[count++] = id;
    return OK;
}

static int gate(void *device, int *id) {
    *id = *(int *)device;
    while (flag(*id, "hung") == 1) usleep(20000);
    return flag(*id, "lost") == 1 ? LOST : OK;
}
#define GPU(d) int id, state = gate(d, &id); if (state) return state

int nvmlInitWithFlags(unsigned flags) { (void)flags; return look(); }
int nvmlInit_v2(void) { return look(); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "error"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { snprintf(out, size, "575.1"); return OK; }
int nvmlDeviceGetCount_v2(unsigned *out) { *out = count; return OK; }
static int kept[MAX];
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    if ((int)index >= count) return INVALID;
    kept[ids[index]] = ids[index];
    *out = &kept[ids[index]];
    GPU(*out);
    return OK;
}
int nvmlDeviceGetUUID(void *d, char *out, unsigned size) { GPU(d); text(id, "uuid", out, size); return OK; }
int nvmlDeviceGetName(void *d, char *out, unsigned size) { GPU(d); text(id, "name", out, size); return OK; }
int nvmlDeviceGetSerial(void *d, char *out, unsigned size) { GPU(d); text(id, "serial", out, size); return OK; }
struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };
int nvmlDeviceGetPciInfo_v3(void *d, struct pci *out) {
    GPU(d);
    char bus[32];
    text(id, "pci_bus_id", bus, sizeof bus);
    memset(out, 0, sizeof *out);
    snprintf(out->bus_id, 32, "0000%.27s", bus);
    return OK;
}
int nvmlDeviceGetUtilizationRates(void *d, unsigned out[2]) { GPU(d); out[0] = 97; out[1] = 50; return OK; }
int nvmlDeviceGetMemoryInfo(void *d, unsigned long long out[3]) { GPU(d); out[0] = 100; out[1] = 60; out[2] = 40; return OK; }
int nvmlDeviceGetTemperature(void *d, int sensor, unsigned *out) { GPU(d); (void)sensor; *out = 40 + id; return OK; }
int nvmlDeviceGetTemperatureThreshold(void *d, int which, unsigned *out) { GPU(d); *out = which ? 87 : 92; return OK; }
int nvmlDeviceGetPowerUsage(void *d, unsigned *out) { GPU(d); *out = 250500; return OK; }
int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned *out) { GPU(d); *out = 700000; return OK; }
int nvmlDeviceGetTotalEnergyConsumption(void *d, unsigned long long *out) { GPU(d); *out = 123456789; return OK; }
int nvmlDeviceGetClockInfo(void *d, int kind, unsigned *out) { GPU(d); *out = kind == 1 ? 1755 : 2619; return OK; }
int nvmlDeviceGetMaxClockInfo(void *d, int kind, unsigned *out) { GPU(d); *out = kind == 1 ? 1980 : 2619; return OK; }
int nvmlDeviceGetCurrentClocksEventReasons(void *d, unsigned long long *out) { GPU(d); *out = 0x40 | 0x8; return OK; }
int nvmlDeviceGetMemoryErrorCounter(void *d, int error, int scope, int place, unsigned long long *out) {
    GPU(d);
    if (place == 0) return UNSUPPORTED;
    *out = error == 1 && scope == 0 && place == 2 ? 3 : 0;
    return OK;
}
int nvmlDeviceGetRemappedRows(void *d, unsigned *c, unsigned *u, unsigned *pending, unsigned *failed) {
    GPU(d);
    if (id == 0) return UNSUPPORTED;
    *c = 1; *u = 2; *pending = 1; *failed = 0;
    return OK;
}
struct field { unsigned id, scope; long long at, took; int type, result; union { double d; unsigned u; unsigned long long l; } value; };
int nvmlDeviceGetFieldValues(void *d, int n, struct field *out) {
    GPU(d);
    for (int i = 0; i < n; i++) {
        out[i].result = OK;
        if (out[i].id == 82) { out[i].type = 1; out[i].value.u = 55; }
        else if (out[i].id == 76) out[i].result = UNSUPPORTED;
        else { out[i].type = 3; out[i].value.l = 1500000000ULL; }
    }
    return OK;
}
