/**
 * The profile: no offset that the core uses leads out of its structure, whatever the boot tool says (`checkProfile`).
 *
 * Structures of the host that the core uses over time are held in place: their pages are accessible as long as something pins them.
 */
import {
  add,
  and,
  bv,
  type Clause,
  type Invariant,
  implies,
  isConst,
  sub,
  type Term,
  TRUE,
  uge,
  ule,
} from "../microv/index.ts";
import { fieldNames } from "./layout.ts";
import { fitsPhysical, holds, isAligned, type Machine, page } from "./state.ts";

/** Room for the largest member behind an offset into struct kvm_vcpu, struct kvm, and struct kvm_guest_debug_arch. */
const VCPU_ROOM = 640;
const KVM_ROOM = 64;
const DEBUG_MOST = 512;
const SMALLEST = 1024;
const LARGEST = 8 << 11;

const NAMES = fieldNames.profile;
const between = (name: string, first: string, end?: string) =>
  NAMES.indexOf(name) >= NAMES.indexOf(first) &&
  (end === undefined || NAMES.indexOf(name) < NAMES.indexOf(end));

/** What holds of a field of the profile. */
export function profileField(m: Machine, name: string): Term {
  const value = m.profile(name);
  const sane = (size: Term) =>
    and(ule(size, bv(LARGEST, 64)), uge(size, bv(SMALLEST, 64)), isAligned(size, 3));
  const member = (size: Term, room: number) => and(sane(size), ule(value, sub(size, bv(room, 64))));
  if (name === "vcpuSize" || name === "kvmSize") return sane(value);
  if (between(name, "createdVcpus", "dbgBcr")) return member(m.profile("kvmSize"), KVM_ROOM);
  if (between(name, "dbgBcr", "vcpuKvm")) return ule(value, bv(DEBUG_MOST, 64));
  return between(name, "vcpuKvm") ? member(m.profile("vcpuSize"), VCPU_ROOM) : TRUE;
}

/** The profile never changes; what is known of it is used where it is read. */
export function profileInvariant(m: Machine): Invariant {
  const first = m.layout.constant("PROFILE") >> 3;
  return {
    name: "the profile leads out of no structure",
    memory: "linear",
    at: (_, key) => {
      const name = isConst(key) ? NAMES[Number(key.value) - first] : undefined;
      return name === undefined ? TRUE : profileField(m, name);
    },
  };
}

/** Whether page `x` holds some of `size` bytes at `pa`, which do not wrap. */
export const reaches = (pa: Term, size: Term, x: Term): Term =>
  and(uge(x, page(pa)), ule(x, page(sub(add(pa, size), bv(1, 64)))));

/** Demands that the struct kvm_vcpu at `context` is memory of the host, held in place. */
export function requireContext(c: Clause, m: Machine, context: Term): void {
  const size = m.profile("vcpuSize");
  c.require("the context is physical memory", fitsPhysical(context, size));
  c.requireAll("the context is held in place", "accessible", (x) =>
    implies(reaches(context, size, x), holds(c.before, "accessible", x)),
  );
}
