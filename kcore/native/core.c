/*
 * The exports of kcore.wasm, as the vectors call them. `kcore.c` is what wasm2c makes of the module, without the
 * instantiation code: KCore has no tables, no data segments and no start function, and its globals are constants.
 */
#include "primitives.h"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#include "kcore.c"
#pragma GCC diagnostic pop

static w2c_kcore instance;

void boot(void) { w2c_kcore_top0x2Fboot(&instance); }
void cpu_on(u32 cpu) { w2c_kcore_top0x2Fcpu_on(&instance, cpu); }
u32 host_trap(u32 cpu) { return w2c_kcore_top0x2Fhost_trap(&instance, cpu); }
u32 guest_trap(u32 cpu, u32 code) { return w2c_kcore_top0x2Fguest_trap(&instance, cpu, code); }
void core_trap(u32 cpu, u32 vector) { w2c_kcore_top0x2Fcore_trap(&instance, cpu, vector); }
