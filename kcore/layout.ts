/**
 * Where KCore's fixed-size state lives in linear memory.
 *
 * Every address is a byte address, every field a 64-bit word at its natural alignment (lock words are 32 bits),
 * and nothing else is ever stored there: the verifier and the in-process machine find these areas by name, because
 * `top.ts` exports the constants. State that grows with the machine (owner table, page tables) is outside linear
 * memory, behind the primitives of `machine.ts`.
 */

/** What the boot tool tells the core: class `BootInfo`. */
export const BOOT_INFO: usize = 0x1000;
/** Field offsets of the host kernel's structures: class `Profile`. */
export const PROFILE: usize = 0x2000;
/** Ticket locks, 8 bytes each: one a page-table root, then the locks named in `lock.ts`. */
export const LOCKS: usize = 0x3000;
/** State of the core as a whole: class `CoreState`. */
export const CORE_STATE: usize = 0x4000;
/** What a panic leaves behind: class `PanicRecord`. */
export const PANIC_RECORD: usize = 0x5000;
/** VM records: `MAX_VMS` times `VM_RECORD_SIZE` bytes. Record 0 is the host's and stays unused. */
export const VM_TABLE: usize = 0x8000;
/** vCPU records: `MAX_VCPUS` times `VCPU_RECORD_SIZE` bytes. */
export const VCPU_TABLE: usize = 0x20000;
/** Ring of core events: `TRACE_EVENTS` times `TRACE_EVENT_SIZE` bytes. */
export const TRACE_RING: usize = 0x10000;
/** Per-CPU areas: `MAX_CPUS` times `CPU_AREA_SIZE` bytes. */
export const CPU_AREAS: usize = 0x40000;

export const MAX_VMS: u32 = 256;
export const VM_RECORD_SIZE: usize = 128;
export const MAX_VCPUS: u32 = 1024;
export const VCPU_RECORD_SIZE: usize = 128;
export const TRACE_EVENTS: u32 = 1024;
export const TRACE_EVENT_SIZE: usize = 32;
export const MAX_CPUS: u32 = 64;
export const CPU_AREA_SIZE: usize = 4096;

/** Offsets in a per-CPU area, known to the vectors: x0..x30 of the host, then of the guest, as 64-bit words. */
export const HOST_FRAME: usize = 0x200;
export const GUEST_FRAME: usize = 0x300;
/** The host's FP/SIMD registers while a guest's are loaded: v0..v31 (16 bytes each), FPSR, FPCR. */
export const HOST_FP: usize = 0x400;
/** The host's breakpoint and watchpoint registers while a guest's are loaded: 4 times 16 words. */
export const HOST_DEBUG: usize = 0x800;
/** The host's pointer authentication keys while a guest's are loaded: ten words. */
export const HOST_KEYS: usize = 0xa00;
