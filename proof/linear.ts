/**
 * Who may touch which part of the core's own memory, and when: the rules that make the core free of data races.
 *
 * Boot information and profile are read-only. A CPU's area is its own, but for the fields of its start, which LOCK_PSCI guards. The pool's
 * list is LOCK_POOL's, the tables of VMs and vCPUs are LOCK_VMS's; of a vCPU that it holds a CPU reads what was written at its
 * initialisation, and alone reads and writes its fault fields. Lock words are touched by lock functions only.
 */
import {
  type Access,
  add,
  and,
  bv,
  concat,
  eq,
  extract,
  FALSE,
  type LinearMemory,
  not,
  or,
  type State,
  type Term,
  TRUE,
  uge,
  ult,
  WordMemory,
} from "../microv/index.ts";
import { field } from "./layout.ts";
import { ghost, holds, type Machine } from "./state.ts";

/** Whether an address lies in this CPU's area. */
export function isOwnArea(m: Machine, at: Term): Term {
  return eq(extract(31, 12, at), extract(31, 12, m.area));
}

const BOOT_FIELDS = ["bootEntry", "bootContext", "bootPending"] as const;

/** Addresses of the fields of this CPU's start. */
export const bootFields = (m: Machine): Term[] =>
  BOOT_FIELDS.map((name) => add(m.area, bv(field.cpu(name), 32)));

/** Whether an address in a CPU's area is a field of its start. */
export function isBootField(at: Term): Term {
  return or(...BOOT_FIELDS.map((name) => eq(extract(11, 3, at), bv(field.cpu(name) >> 3, 9))));
}

/** Number of the vCPU record, and of the VM record, that an address lies in. */
export const vcpuIndex = (at: Term): Term => extract(16, 7, at);
export const vmIndex = (at: Term): Term => extract(14, 7, at);

interface Region {
  readonly first: number;
  readonly size: number;
  /** Whether a word may be read, and written, in a state. */
  readonly read: (state: State, at: Term) => Term;
  readonly write: (state: State, at: Term) => Term;
}

const always = () => TRUE;
const never = () => FALSE;
const starting = (state: State) => ghost(state, "booting");

const inRecord = (offsets: readonly number[]) => (at: Term) =>
  or(...offsets.map((offset) => eq(extract(6, 3, at), bv(offset >> 3, 4))));
const isFaultField = inRecord([field.vcpu("fault"), field.vcpu("mmioPage")]);
const isLockField = inRecord([field.vcpu("lock")]);
const isBroken = inRecord([field.vm("broken")]);
/** Fields of a VM record that change while the VM exists, under LOCK_VMS; all others but `broken` are written before it does. */
const isChanging = inRecord(["state", "firstVcpu", "vcpus", "cursor"].map((name) => field.vm(name)));

function regions(m: Machine): Region[] {
  const at = (name: string) => m.layout.constant(name);
  const coreState = at("CORE_STATE");
  const isCore = (address: Term, ...names: string[]) =>
    or(...names.map((name) => eq(extract(31, 3, address), bv((coreState + field.core(name)) >> 3, 29))));
  const area = (state: State, address: Term) =>
    or(
      and(isOwnArea(m, address), not(isBootField(address))),
      and(isBootField(address), ghost(state, "psciHeld")),
    );
  const lockOfVm = (state: State, address: Term) =>
    and(ghost(state, "rootHeld"), eq(ghost(state, "root"), vmIndex(address)));
  const vms = (state: State) => ghost(state, "vmsHeld");
  return [
    { first: at("BOOT_INFO"), size: 0x1000, read: always, write: never },
    { first: at("PROFILE"), size: 0x1000, read: always, write: never },
    {
      first: coreState,
      size: 0x1000,
      read: (state, address) =>
        or(
          isCore(address, "hostIpaBits", "hostVtcr", "forceWriteBack", "booted"),
          and(isCore(address, "poolHead", "poolFree"), or(ghost(state, "poolHeld"), starting(state))),
          and(isCore(address, "vmSlots", "vcpuSlots"), or(vms(state), starting(state))),
        ),
      write: (state, address) =>
        or(
          and(
            starting(state),
            isCore(address, "hostIpaBits", "hostVtcr", "forceWriteBack", "booted", "vmSlots"),
          ),
          and(isCore(address, "poolHead", "poolFree"), or(ghost(state, "poolHeld"), starting(state))),
          and(isCore(address, "vmSlots", "vcpuSlots"), vms(state)),
        ),
    },
    { first: at("PANIC_RECORD"), size: 0x1000, read: never, write: always },
    {
      first: at("TRACE_RING"),
      size: at("TRACE_EVENTS") * at("TRACE_EVENT_SIZE"),
      read: never,
      write: always,
    },
    {
      first: at("VM_TABLE"),
      size: at("MAX_VMS") * at("VM_RECORD_SIZE"),
      read: (state, address) =>
        or(
          vms(state),
          and(
            holds(state, "vmHeld", vmIndex(address)),
            not(isChanging(address)),
            or(not(isBroken(address)), lockOfVm(state, address)),
          ),
        ),
      write: (state, address) =>
        and(
          vms(state),
          or(
            isChanging(address),
            and(isBroken(address), lockOfVm(state, address)),
            not(holds(state, "alive", vmIndex(address))),
          ),
        ),
    },
    {
      first: at("VCPU_TABLE"),
      size: at("MAX_VCPUS") * at("VCPU_RECORD_SIZE"),
      read: (state, address) =>
        and(
          not(isLockField(address)),
          or(holds(state, "vcpuHeld", vcpuIndex(address)), and(vms(state), not(isFaultField(address)))),
        ),
      write: (state, address) =>
        and(
          not(isLockField(address)),
          holds(state, "vcpuHeld", vcpuIndex(address)),
          or(vms(state), isFaultField(address)),
        ),
    },
    { first: at("CPU_AREAS"), size: at("MAX_CPUS") * at("CPU_AREA_SIZE"), read: area, write: area },
  ];
}

/** Whether a word of linear memory stays what it is while this CPU holds what it holds. */
export function staysAs(m: Machine): (state: State, key: Term) => Term {
  const list = regions(m).filter(
    ({ first }) => first !== m.layout.constant("TRACE_RING") && first !== m.layout.constant("PANIC_RECORD"),
  );
  return (state, key) => {
    const at = concat(key, bv(0, 3));
    return or(...list.map((region) => and(inside(region, at), region.read(state, at))));
  };
}

function inside({ first, size }: Region, at: Term): Term {
  // A region of a power of two at a multiple of it is told by the upper bits alone, which are constant for the address of a record.
  const bits = Math.log2(size);
  if (Number.isInteger(bits) && first % size === 0)
    return eq(extract(31, bits, at), bv(first / size, 32 - bits));
  return and(uge(at, bv(first, 32)), ult(at, bv(first + size, 32)));
}

/** The core's linear memory under these rules. Atomic accesses are exempt: they are how CPUs speak to each other. */
export class GuardedMemory implements LinearMemory {
  private readonly words = new WordMemory("linear");
  private readonly regions: readonly Region[];

  constructor(m: Machine) {
    this.regions = regions(m);
  }

  private check(access: Access, kind: "read" | "write"): void {
    if (access.atomic) return;
    const state = access.state as State;
    const allowed = or(
      ...this.regions.map((region) =>
        and(inside(region, access.address), region[kind](state, access.address)),
      ),
    );
    access.oblige(
      kind === "read"
        ? "the core's memory is read only where this CPU may"
        : "the core's memory is written only where this CPU may",
      allowed,
    );
  }

  load(access: Access, bytes: number): Term {
    this.check(access, "read");
    return this.words.load(access, bytes);
  }

  store(access: Access, value: Term): void {
    this.check(access, "write");
    this.words.store(access, value);
  }

  fill(): void {
    throw new Error("the core fills no linear memory");
  }

  copy(): void {
    throw new Error("the core copies no linear memory");
  }
}
