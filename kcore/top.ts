/**
 * KCore: the transitions of the system, which are the exports of the wasm module. The vectors call one of them at each
 * exception and then resume the context it names. See DESIGN in the documentation for the layers below.
 */
import { bootCore, bootCpu } from "./boot";
import { guestTrap } from "./guesttrap";
import { hostTrap } from "./hosttrap";
import { cpuArea } from "./percpu";
import { Panic, panic } from "./trace";

export {
  BOOT_INFO,
  CORE_STATE,
  CPU_AREA_SIZE,
  CPU_AREAS,
  GUEST_FRAME,
  HOST_DEBUG,
  HOST_FP,
  HOST_FRAME,
  HOST_KEYS,
  LOCKS,
  MAX_CPUS,
  MAX_VCPUS,
  MAX_VMS,
  PANIC_RECORD,
  PROFILE,
  TRACE_EVENT_SIZE,
  TRACE_EVENTS,
  TRACE_RING,
  VCPU_RECORD_SIZE,
  VCPU_TABLE,
  VM_RECORD_SIZE,
  VM_TABLE,
} from "./layout";

/** The machine has started: `cpu` is its first CPU. The host's context is current on return. */
export function boot(): void {
  bootCore(cpuArea(0));
}

/** CPU `index` has been started on the host's behalf. The host's context is current on return. */
export function cpu_on(index: u32): void {
  bootCpu(cpuArea(index), index);
}

/** The host trapped on CPU `index`. Returns which context to resume: 0 the host's, 1 the guest's. */
export function host_trap(index: u32): u32 {
  return hostTrap(cpuArea(index));
}

/** The guest on CPU `index` trapped or was interrupted. Returns which context to resume: 0 the host's, 1 the guest's. */
export function guest_trap(index: u32, code: u32): u32 {
  return guestTrap(cpuArea(index), <u64>code);
}

/** An exception was taken from the core itself: it ends here. `vector` is the number of the exception vector. */
export function core_trap(index: u32, vector: u32): void {
  panic(cpuArea(index), Panic.EL2_EXCEPTION, <u64>vector);
}
